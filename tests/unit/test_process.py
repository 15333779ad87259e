"""The single door to programs: what comes in is a list, what comes out is bounded, and nothing is left running."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from builder.errors import Cancelled, ProgramFailed, ProgramMissing, ProgramTimedOut
from builder.process import clean_environment, run


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_gone(pid: int, patience: float = 3) -> bool:
    deadline = time.monotonic() + patience
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def pid_in(file: Path) -> int:
    for _ in range(200):
        if file.exists() and file.read_text().strip():
            return int(file.read_text())
        time.sleep(0.02)
    raise AssertionError(f"nobody wrote {file}")


class TestEnd:
    def test_well(self) -> None:
        done = run(["sh", "-c", "echo out; echo err >&2"], timeout=10)
        assert (done.exit_code, done.stdout, done.stderr) == (0, b"out\n", b"err\n")
        assert done.argv == ("sh", "-c", "echo out; echo err >&2")
        assert 0 <= done.seconds < 10

    def test_with_an_exit_code_that_is_a_failure(self) -> None:
        with pytest.raises(ProgramFailed, match=r"sh failed \(exit code 3\): the reason") as caught:
            run(["sh", "-c", "echo the reason >&2; exit 3"], timeout=10)
        assert (caught.value.exit_code, caught.value.stderr_tail) == (3, "the reason")

    def test_with_an_exit_code_that_is_an_answer(self) -> None:
        assert run(["sh", "-c", "exit 3"], timeout=10, accept=(0, 3)).exit_code == 3
        with pytest.raises(ProgramFailed):
            run(["true"], timeout=10, accept=(3,))

    def test_by_a_signal(self) -> None:
        with pytest.raises(ProgramFailed, match=r"killed by signal 9\): it said nothing") as caught:
            run(["sh", "-c", "kill -9 $$"], timeout=10)
        assert caught.value.exit_code == -9

    def test_tells_the_last_lines_of_many(self) -> None:
        with pytest.raises(ProgramFailed) as caught:
            run(["sh", "-c", "seq 1 5000 >&2; exit 1"], timeout=10)
        assert caught.value.stderr_tail.split() == [str(number) for number in range(4989, 5001)]


class TestStart:
    @pytest.mark.parametrize("name", ["no-such-program-anywhere", "/nonexistent/program"])
    def test_of_what_is_not_there_is_told(self, name: str) -> None:
        with pytest.raises(ProgramMissing, match="is not installed or not on PATH") as caught:
            run([name], timeout=10)
        assert caught.value.hint == f"install {Path(name).name}"

    def test_of_what_cannot_run_is_told(self, tmp_path: Path) -> None:
        file = tmp_path / "program"
        file.write_text("x")
        with pytest.raises(ProgramMissing, match=r"cannot be started: .*Permission denied"):
            run([file], timeout=10)

    def test_hands_arguments_over_as_they_are(self) -> None:
        odd = ["$HOME", "a b", "`id`", "; rm -rf /", "*", "", "-n", "é", "\n"]
        done = run([sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *odd], timeout=10)
        assert done.stdout.decode().strip() == ascii(odd)

    def test_in_a_directory_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ProgramMissing, match="there is no directory"):
            run(["true"], timeout=10, cwd=tmp_path / "nowhere")

    def test_in_another_directory(self, tmp_path: Path) -> None:
        assert run(["pwd"], timeout=10, cwd=tmp_path).stdout.decode().strip() == str(tmp_path)

    def test_hands_over_nothing_of_our_environment_but_what_is_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GOLDSMITH_DATABASE_URL", "hunter2")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        monkeypatch.setenv("LD_PRELOAD", "")
        monkeypatch.setenv("PYTHONPATH", "hunter2")
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
        found = dict(
            line.split("=", 1) for line in run(["env"], timeout=10, env={"OWN": "1"}).stdout.decode().splitlines()
        )
        assert "hunter2" not in found.values()
        assert "LD_PRELOAD" not in found
        assert found["OWN"] == "1"
        assert found["LC_ALL"] == "C.UTF-8"
        assert found["HTTPS_PROXY"] == "http://proxy.example"

    def test_lets_the_caller_say_more(self) -> None:
        assert clean_environment({"PATH": "/x", "LC_ALL": "C"})["PATH"] == "/x"
        assert clean_environment({"LC_ALL": "C"})["LC_ALL"] == "C"

    def test_inherits_no_open_file(self, tmp_path: Path) -> None:
        with (tmp_path / "secret").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            listed = run(["sh", "-c", "ls -l /proc/self/fd"], timeout=10).stdout.decode()
        assert "secret" not in listed

    def test_without_input_reads_nothing(self) -> None:
        assert run(["cat"], timeout=10).stdout == b""


class TestInput:
    def test_goes_in_and_comes_out(self) -> None:
        data = os.urandom(3_000_000)
        assert run(["cat"], timeout=30, stdin=data).stdout == data

    def test_of_nothing_is_an_end(self) -> None:
        assert run(["cat"], timeout=10, stdin=b"").stdout == b""

    def test_that_nobody_reads_is_no_failure(self) -> None:
        assert run(["true"], timeout=10, stdin=b"x" * 3_000_000).exit_code == 0


class TestOutput:
    def test_has_a_limit(self) -> None:
        started = time.monotonic()
        with pytest.raises(ProgramFailed, match="yes wrote more than 100000 bytes of output"):
            run(["yes"], timeout=30, max_output=100_000)
        assert time.monotonic() - started < 10

    def test_on_stderr_keeps_its_end(self) -> None:
        done = run(["sh", "-c", "seq 1 100000 >&2"], timeout=30, max_output=1000)
        assert len(done.stderr) == 1000
        assert done.stderr.endswith(b"\n100000\n")

    def test_of_stderr_is_seen_line_by_line_as_it_comes(self) -> None:
        seen: list[tuple[str, float]] = []
        started = time.monotonic()
        run(
            ["sh", "-c", r"echo one >&2; sleep 0.5; printf 'tw\377o\n\n' >&2"],
            timeout=10,
            on_stderr=lambda line: seen.append((line, time.monotonic() - started)),
        )
        assert [line for line, _ in seen] == ["one", "tw\ufffdo", ""]
        assert seen[1][1] - seen[0][1] > 0.3

    def test_of_stderr_is_seen_to_its_last_line_though_it_has_no_end(self) -> None:
        seen: list[str] = []
        run(["sh", "-c", "printf 'one\ntwo' >&2"], timeout=10, on_stderr=seen.append)
        assert seen == ["one", "two"]

    def test_whose_listener_breaks_ends_the_program(self, tmp_path: Path) -> None:
        def broken(line: str) -> None:
            raise KeyError(line)

        with pytest.raises(KeyError):
            run(["sh", "-c", f"echo $$ >{tmp_path}/pid; echo x >&2; sleep 60"], timeout=10, on_stderr=broken)
        assert until_gone(pid_in(tmp_path / "pid"))

    def test_may_be_closed_long_before_the_end(self) -> None:
        done = run(["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 4"], timeout=10, accept=(4,))
        assert done.exit_code == 4


class TestLimits:
    def test_of_time_ends_the_program_and_all_it_started(self, tmp_path: Path) -> None:
        script = f"sleep 60 & echo $! >{tmp_path}/pid; wait"
        started = time.monotonic()
        with pytest.raises(ProgramTimedOut, match=r"sh did not finish within 0\.5 seconds") as caught:
            run(["sh", "-c", script], timeout=0.5)
        assert time.monotonic() - started < 4
        assert caught.value.retryable
        assert until_gone(pid_in(tmp_path / "pid"))

    @pytest.mark.parametrize("script", ["sleep 60 & echo $! >pid", "(trap '' TERM; sleep 60) & echo $! >pid; wait"])
    def test_of_time_ends_what_a_program_left_behind(self, tmp_path: Path, script: str) -> None:
        with pytest.raises(ProgramTimedOut):
            run(["sh", "-c", script], timeout=0.5, cwd=tmp_path)
        assert until_gone(pid_in(tmp_path / "pid"))

    def test_nothing_stays_behind_a_program_that_ended_well(self, tmp_path: Path) -> None:
        run(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $! >pid"], timeout=10, cwd=tmp_path)
        assert until_gone(pid_in(tmp_path / "pid"))

    def test_of_time_holds_while_a_program_only_talks(self) -> None:
        started = time.monotonic()
        with pytest.raises(ProgramTimedOut):
            run(["sh", "-c", "while :; do echo x >&2; done"], timeout=0.5)
        assert time.monotonic() - started < 4

    def test_of_time_ends_what_will_not_listen(self, tmp_path: Path) -> None:
        script = (
            "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
        )
        started = time.monotonic()
        with pytest.raises(ProgramTimedOut):
            run([sys.executable, "-c", script, tmp_path / "pid"], timeout=1)
        assert time.monotonic() - started < 9
        assert until_gone(pid_in(tmp_path / "pid"))

    def test_a_cancelled_build_ends_its_program(self, tmp_path: Path) -> None:
        asked = threading.Event()
        threading.Timer(0.4, asked.set).start()
        started = time.monotonic()
        with pytest.raises(Cancelled, match="sh was stopped because the build was cancelled"):
            run(["sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 60"], timeout=30, should_stop=asked.is_set)
        assert time.monotonic() - started < 3
        assert until_gone(pid_in(tmp_path / "pid"))

    def test_it_works_in_a_thread_beside_others(self) -> None:
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=lambda n=n: answers.append(run(["echo", str(n)], timeout=20).stdout))  # type: ignore[misc]
            for n in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(int(answer) for answer in answers) == list(range(16))

    def test_it_leaves_no_zombie_and_no_open_file(self) -> None:
        run(["true"], timeout=10)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            pid = int(run(["sh", "-c", "echo $$; exit 0"], timeout=10).stdout)
            assert not Path(f"/proc/{pid}").exists()
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_our_own_signals_do_not_reach_it(self) -> None:
        """A terminal's interrupt goes to our group; the program has one of its own, which we end."""
        found = run(["sh", "-c", "ps -o pgid= -p $$"], timeout=10).stdout.split()
        assert int(found[0]) != os.getpgrp()


class TestMemoryAndFiles:
    GROWING = "import time\nkept = []\nwhile True:\n    kept.append(b'x' * 2**20)\n    time.sleep(0.001)"

    def test_a_program_that_takes_too_much_memory_is_ended(self) -> None:
        begun = time.monotonic()
        with pytest.raises(ProgramFailed, match="used more than 64 MiB of memory"):
            run([sys.executable, "-c", self.GROWING], timeout=20, max_memory=64 * 2**20)
        assert time.monotonic() - begun < 10

    def test_address_space_and_mapped_files_do_not_count(self, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(bytes(100 * 2**20))
        mapping = (
            "import mmap, sys\nfile = open(sys.argv[1], 'rb')\n"
            "data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\nreserved = mmap.mmap(-1, 2**33)\n"
            "print(sum(data[at] for at in range(0, len(data), 4096)))\nimport time\ntime.sleep(0.3)"
        )
        done = run([sys.executable, "-c", mapping, str(tmp_path / "large")], timeout=20, max_memory=64 * 2**20)
        assert done.stdout == b"0\n"

    def test_no_file_grows_past_its_limit(self, tmp_path: Path) -> None:
        with pytest.raises(ProgramFailed):
            run(["sh", "-c", "sleep 0.2; exec dd if=/dev/zero of=f bs=64k count=100"], timeout=20, cwd=tmp_path,
                max_file=2**20)  # fmt: skip
        assert (tmp_path / "f").stat().st_size == 2**20
