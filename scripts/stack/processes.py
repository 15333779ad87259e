"""Background processes that outlive us: started once, found again by their pid file, ended by their id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class StackFailed(Exception):
    """One line for whoever runs the script: what failed, and where its log is."""


@dataclass(frozen=True)
class Process:
    """`run` holds the pid file, `log` what the process says."""

    name: str
    run: Path
    log: Path

    @property
    def _pid_file(self) -> Path:
        return self.run / f"{self.name}.json"

    def alive(self) -> bool:
        return self._pid() is not None

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Start in a session of its own; its output goes to the end of the log."""
        self.run.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            child = subprocess.Popen(
                list(argv), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self._pid_file.write_text(json.dumps({"pid": child.pid, "started": _started(child.pid)}))

    def stop(self, patience: float = 20) -> None:
        """Ask it to end, wait, and end it. Only the process that we started: a reused id has another start time."""
        pid = self._pid()
        if pid is not None:
            for sign in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(pid, sign)
                except ProcessLookupError:
                    break
                if _wait_gone(pid, patience):
                    break
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it at once, with all it started."""
        pid = self._pid()
        if pid is not None:
            os.killpg(pid, signal.SIGKILL)
            _wait_gone(pid, 10)
        self._pid_file.unlink(missing_ok=True)

    def pid(self) -> int:
        pid = self._pid()
        if pid is None:
            raise StackFailed(f"{self.name} does not run; its log: {self.log}")
        return pid

    def tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"

    def _pid(self) -> int | None:
        try:
            noted = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        pid = int(noted["pid"])
        return pid if _started(pid) == noted["started"] else None


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _wait_gone(pid: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # ours, when we started it in this very run
        if _started(pid) is None:
            return True
        time.sleep(0.05)
    return False
