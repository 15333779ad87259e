"""One holder at a time between threads and processes, and none after its death."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.locking import LockTimedOut, exclusive

HOLD = """
import sys, time
from pathlib import Path
from builder.locking import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_it_is_held_by_one_thread_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        with exclusive(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.005)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert most == 1


def test_another_process_is_waited_for_and_its_death_lets_go(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(LockTimedOut, match=r"lock was not let go within 0\.2 seconds") as caught,
            exclusive(tmp_path / "lock", timeout=0.2),
        ):
            pytest.fail("it is held")
        assert caught.value.retryable
        threading.Timer(0.3, holder.send_signal, [signal.SIGKILL]).start()
        with exclusive(tmp_path / "lock", timeout=10):
            pass
    finally:
        holder.kill()
        holder.wait(5)
        holder.stdout.close()  # type: ignore[union-attr]


def test_a_failure_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "lock"):
        raise ZeroDivisionError
    with exclusive(tmp_path / "lock", timeout=0):
        pass


def test_it_makes_its_directory_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a/b/lock"):
        assert (tmp_path / "a/b/lock").stat().st_mode & 0o777 == 0o600


def test_a_child_does_not_inherit_it(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        with exclusive(tmp_path / "lock", timeout=1):
            pass
    finally:
        child.kill()
        child.wait(5)


def test_two_locks_are_two(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a"), exclusive(tmp_path / "b", timeout=0):
        pass
