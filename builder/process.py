"""The single door to external programs.

Everything that is not Python (trivy, mmdebstrap, apt, git) runs through `run`: an argument list and never a shell, a
time limit for the whole process group, bounded output, limits on memory and on the size of files where asked, a clean
environment, and a typed error that carries the last lines of stderr. A house-rules test holds that nothing else
imports `subprocess`.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from builder.errors import Cancelled, ProgramFailed, ProgramMissing, ProgramTimedOut

# What a child may inherit: where programs are, how to reach the outside, where temporary files go. Nothing secret.
_INHERITED = (
    "PATH", "HOME", "TMPDIR", "LANG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
_TAIL_LINES = 12
_POLL_SECONDS = 0.2
_POLL_SECONDS_OF_MEMORY = 0.02
_PATIENCE = 5.0


@dataclass(frozen=True)
class Completed:
    """A program that ended well. `stdout` and `stderr` are bytes, at most `max_output` each."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment a child gets: a short allow-list of ours, C.UTF-8, and what the caller adds."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"LC_ALL": "C.UTF-8", **kept, **(extra or {})}


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    max_output: int = 64 * 1024 * 1024,
    accept: Sequence[int] = (0,),
    on_stderr: Callable[[str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    max_memory: int | None = None,
    max_file: int | None = None,
) -> Completed:
    """Run a program to its end and return what it said.

    `timeout` is in seconds and ends the whole process group; `env` is added to a clean environment; an exit code
    outside `accept` is a failure. `on_stderr` sees each line of stderr as it comes (progress); `should_stop` is asked
    a few times a second and ends the program when it says so. stdout past `max_output` bytes fails; of stderr the end
    is kept.

    Raises ProgramMissing, ProgramFailed, ProgramTimedOut or Cancelled.
    """
    command = tuple(os.fspath(part) for part in argv)
    name = Path(command[0]).name
    started = time.monotonic()
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(env),
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise ProgramMissing(f"{name} cannot be started: there is no directory {cwd}") from error
        raise ProgramMissing(f"{name} is not installed or not on PATH", hint=f"install {name}") from error
    except OSError as error:
        raise ProgramMissing(f"{name} cannot be started: {error}", hint=f"check the file {command[0]}") from error

    output = _Output(max_output, on_stderr)
    try:
        if max_file is not None:
            with suppress(ProcessLookupError):
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (max_file, max_file))
        _pump(child, stdin, output, name, started + timeout, timeout, should_stop, max_memory)
        output.end()
    finally:
        _end(child)
    if child.returncode not in accept:
        tail = output.tail()
        ended = f"killed by signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        raise ProgramFailed(
            f"{name} failed ({ended}): {tail or 'it said nothing'}",
            exit_code=child.returncode,
            stderr_tail=tail,
        )
    return Completed(command, child.returncode, bytes(output.stdout), bytes(output.stderr), time.monotonic() - started)


class _Output:
    def __init__(self, limit: int, on_stderr: Callable[[str], None] | None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._limit = limit
        self._partial = b""
        self._on_stderr = on_stderr

    def take(self, stream: str, data: bytes, name: str) -> None:
        if stream == "stdout":
            self.stdout += data
            if len(self.stdout) > self._limit:
                raise ProgramFailed(f"{name} wrote more than {self._limit} bytes of output")
            return
        self.stderr += data
        del self.stderr[: -self._limit]
        if self._on_stderr is not None:
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._partial = self._partial[-65536:]
            for line in lines:
                self._on_stderr(line.decode("utf-8", "replace").rstrip())

    def end(self) -> None:
        """A last line may have no end."""
        if self._partial and self._on_stderr is not None:
            self._on_stderr(self._partial.decode("utf-8", "replace").rstrip())

    def tail(self) -> str:
        lines = bytes(self.stderr[-16384:]).decode("utf-8", "replace").strip().splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


def _pump(
    child: subprocess.Popen[bytes],
    stdin: bytes | None,
    output: _Output,
    name: str,
    deadline: float,
    timeout: float,
    should_stop: Callable[[], bool] | None,
    max_memory: int | None,
) -> None:
    poll = _POLL_SECONDS if max_memory is None else _POLL_SECONDS_OF_MEMORY
    pending = memoryview(stdin or b"")
    with selectors.DefaultSelector() as selector:
        assert child.stdout is not None
        assert child.stderr is not None
        selector.register(child.stdout, selectors.EVENT_READ, "stdout")
        selector.register(child.stderr, selectors.EVENT_READ, "stderr")
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE, "stdin")
        while selector.get_map() or not _has_ended(child):
            if time.monotonic() > deadline:
                raise ProgramTimedOut(f"{name} did not finish within {timeout:g} seconds")
            if should_stop is not None and should_stop():
                raise Cancelled(f"{name} was stopped because the build was cancelled")
            if max_memory is not None and _own_memory(child.pid) > max_memory:
                raise ProgramFailed(f"{name} used more than {max_memory // 2**20} MiB of memory")
            if not selector.get_map():
                time.sleep(0.001)
                continue
            for key, _ in selector.select(poll):
                if key.data == "stdin":
                    pending = _feed(key.fd, pending)
                    if not pending:
                        selector.unregister(key.fileobj)
                        assert child.stdin is not None
                        child.stdin.close()
                    continue
                data = os.read(key.fd, 65536)
                if data:
                    output.take(key.data, data, name)
                else:
                    selector.unregister(key.fileobj)


def _own_memory(pid: int) -> int:
    """Bytes in memory that no file stands behind: a mapped database is the kernel's to drop. 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return 0
    found = [line.split() for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:"))]
    return sum(int(fields[1]) for fields in found) * 1024


def _feed(fd: int, pending: memoryview) -> memoryview:
    try:
        return pending[os.write(fd, pending[:65536]) :]
    except BlockingIOError:
        return pending
    except BrokenPipeError:
        return pending[:0]


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without taking it away: as long as it is there, no other group can get its number."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave nothing running: the child and all it started share a process group, also when the child itself is done."""
    if not _has_ended(child):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while not _has_ended(child) and time.monotonic() < deadline:
            time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    child.wait()
