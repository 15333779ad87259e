"""The API as operators start it, as processes of its own, for benchmarks: its address, a key, its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from builder.store import keys
from builder.store.database import Database
from tests.unit.cli_server import free_port

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Served:
    """`database` is ours, for playing the workers."""

    port: int
    key: str
    database: Database
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def memory(self) -> list[int]:
        """The peak of resident memory of each process that serves, in MB."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        peaks = [_peak(int(pid)) for pid in (children or [str(self.pid)])]
        return sorted((peak for peak in peaks if peak > 30), reverse=True)  # multiprocessing's own helper is small

    def seconds(self) -> float:
        """Processor time of all processes that serve, so far."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_processor(int(pid)) for pid in [str(self.pid), *children])


@contextmanager
def served(database_url: str, state: Path, *, processes: int = 1) -> Iterator[Served]:
    """An API over a database, with the shipped recipes, until the block ends."""
    database = Database(database_url)
    database.migrate()
    with database.write() as session:
        key = keys.create_key(session, "bench")
    port = free_port()
    settings = {
        "GOLDSMITH_DATABASE_URL": database_url,
        "GOLDSMITH_STATE_DIRECTORY": str(state),
        "GOLDSMITH_RECIPES_DIRECTORY": str(ROOT / "recipes"),
        # One caller asks for more than any may.
        "GOLDSMITH_REQUESTS_PER_MINUTE": "0",
        "GOLDSMITH_JOBS_PER_MINUTE": "0",
    }
    own = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")}
    argv = [sys.executable, "-m", "uvicorn", "--factory", "builder.api.app:create_app", "--port", str(port)]
    argv += ["--no-access-log", "--timeout-graceful-shutdown", "2", "--workers", str(processes)]
    state.mkdir(parents=True, exist_ok=True)
    with (state / "api.log").open("wb") as log:
        server = subprocess.Popen(argv, cwd=ROOT, env={**own, **settings}, stdout=log, stderr=log)
    try:
        _wait(server, port, state / "api.log")
        yield Served(port, key, database, server.pid)
    finally:
        server.terminate()
        server.wait(20)
        database.close()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the API ended at once:\n{log.read_text()}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False, timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"the API did not get ready:\n{log.read_text()}")


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM:")), 0)


def _processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
