"""A Debian base: the same bytes whatever it is made in, and nothing left of what it was made in."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.engine import debian
from builder.engine.debian import BOOTSTRAP, BootstrapFailed, bootstrap
from builder.engine.memory import available, in_memory
from builder.errors import Cancelled
from builder.planning.apt import AptArchive, Resolved
from builder.planning.debs import DebStore
from builder.planning.flat import write_flat_archive
from builder.planning.mirrors import find_mirrors
from builder.process import run

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> DebStore:
    return DebStore(tmp_path_factory.mktemp("debs"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, debs: DebStore) -> Resolved:
    archive = AptArchive(
        tmp_path_factory.mktemp("apt"),
        mirrors=find_mirrors(None, None),
        suite="trixie",
        components=["main"],
        architecture=run(["dpkg", "--print-architecture"], timeout=10).stdout.decode().strip(),
        debs=debs,
        index_seconds=3600,
    )
    archive.refresh()
    return archive.resolve(BOOTSTRAP)


def made(
    directory: Path, core: Resolved, debs: DebStore, should_stop: Callable[[], bool] = lambda: False
) -> tuple[str, list[str]]:
    """The sha256 of a bootstrapped tar, and what was said on the way."""
    directory.mkdir()
    said: list[str] = []
    bootstrap(
        directory / "base.tar",
        suite="trixie",
        architecture=core.packages[1].architecture,
        packages=core.packages,
        debs=debs,
        epoch=core.newest,
        timeout=300,
        on_line=said.append,
        should_stop=should_stop,
    )
    return hashlib.sha256((directory / "base.tar").read_bytes()).hexdigest(), said


def mounts() -> list[str]:
    """All but those of containers, which come and go on a machine."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if "overlay" not in line and "netns" not in line]


def test_memory_disk_and_compression_give_the_same_bytes(
    tmp_path: Path, core: Resolved, debs: DebStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mounts()
    in_memory_, _ = made(tmp_path / "memory", core, debs)

    def compressed(*arguments: object) -> int:
        write_flat_archive(*arguments)  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr(debian, "write_stored_archive", compressed)
    monkeypatch.setattr(debian, "in_memory", lambda *_: [])
    on_disk, _ = made(tmp_path / "disk", core, debs)
    assert in_memory_ == on_disk
    assert [path.name for path in tmp_path.glob("*/*")] == ["base.tar", "base.tar"]
    assert mounts() == before


def test_a_cancelled_bootstrap_leaves_nothing(tmp_path: Path, core: Resolved, debs: DebStore) -> None:
    before, stop = mounts(), time.monotonic() + 4
    with pytest.raises(Cancelled):
        made(tmp_path / "work", core, debs, should_stop=lambda: time.monotonic() > stop)
    assert [path.name for path in (tmp_path / "work").iterdir() if path.name != "base.tar"] == []
    assert mounts() == before


def test_too_little_room_is_said(
    tmp_path: Path, core: Resolved, debs: DebStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "in_memory", lambda directory, size: in_memory(directory, size * 3 // 8))
    with pytest.raises(BootstrapFailed, match="No space left on device"):
        made(tmp_path / "work", core, debs)


class TestInMemory:
    def test_the_command_alone_sees_it(self, tmp_path: Path) -> None:
        words = in_memory(tmp_path, MEGABYTE)
        seen = run([*words, "sh", "-c", 'touch "$1/file" && stat -f -c %T "$1"', "sh", tmp_path], timeout=10)
        assert seen.stdout.split() == [b"tmpfs"]
        assert list(tmp_path.iterdir()) == []

    def test_it_has_the_room_that_was_asked_for_and_no_more(self, tmp_path: Path) -> None:
        words = in_memory(tmp_path, MEGABYTE)
        fill = 'head -c "$2" /dev/zero >"$1/file"'
        run([*words, "sh", "-c", fill, "sh", tmp_path, str(MEGABYTE)], timeout=10)
        done = run([*words, "sh", "-c", fill, "sh", tmp_path, str(MEGABYTE + 1)], timeout=10, accept=(1,))
        assert b"No space left on device" in done.stderr

    def test_it_is_gone_with_a_command_that_was_killed(self, tmp_path: Path) -> None:
        script = 'head -c 900000 /dev/zero >"$1/file"; echo; sleep 60'
        child = subprocess.Popen(
            [*in_memory(tmp_path, MEGABYTE), "sh", "-c", script, "sh", str(tmp_path)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdout is not None
        child.stdout.readline()
        mounted = Path(f"/proc/{child.pid}/mounts").read_text()
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        assert f"goldsmith {tmp_path} tmpfs" in mounted
        assert str(tmp_path) not in Path("/proc/mounts").read_text()

    def test_there_is_none_where_memory_is_short(self, tmp_path: Path) -> None:
        assert in_memory(tmp_path, available()) == []

    def test_there_is_none_where_mounting_is_not_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "unshare").write_text("#!/bin/sh\necho unshare failed: Operation not permitted >&2; exit 1\n")
        (tmp_path / "unshare").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert in_memory(tmp_path, MEGABYTE) == []
