"""A worker or dispatcher that is stuck is found by its health check: real processes, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from builder import pulse
from builder.cli.doctor import hosts
from builder.cli.doctor.findings import Finding, State
from builder.settings import Settings
from builder.store.database import Database
from tests.integration.redis_server import running_redis

ROOT = Path(__file__).resolve().parents[2]
WORKER = [
    "-m",
    "celery",
    "-A",
    "workers.errands",
    "worker",
    "-Q",
    "errands",
    "-c",
    "1",
    "--without-gossip",
    "--without-mingle",
]
# A beat has failed to come.
SILENT = pulse.BEAT_SECONDS + 2


@contextmanager
def running(name: str, command: list[str], settings: Settings, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")},
        "GOLDSMITH_DATABASE_URL": settings.database_url,
        "GOLDSMITH_REDIS_URL": settings.redis_url.get_secret_value(),
        "GOLDSMITH_STATE_DIRECTORY": str(directory / "state"),
        "GOLDSMITH_PULSE_DIRECTORY": str(settings.pulse_directory),
    }
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=env, stdout=log, stderr=log)
    assert settings.pulse_directory is not None
    try:
        yield process
    finally:
        for pid in {process.pid, *pulse.silences(settings.pulse_directory)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        process.terminate()
        process.wait(30)


class Health:
    """What the doctor finds of the pulse."""

    def __init__(self, settings: Settings) -> None:
        self._check = next(check for check in hosts.checks("errands", settings) if check.name == "pulse")

    def now(self) -> Finding:
        return self._check.look()

    def until(self, state: State, told: str) -> Finding:
        deadline = time.monotonic() + 60
        while (found := self.now()).state != state or told not in found.detail:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found


def test_whoever_is_stuck_is_found_and_whoever_goes_on_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "SILENT_SECONDS", SILENT)
    url = f"sqlite:///{tmp_path / 'goldsmith.db'}"
    database = Database(url)
    database.migrate()
    database.close()
    with running_redis(tmp_path) as redis:
        told = Settings(database_url=url, redis_url=redis)  # type: ignore[arg-type]
        of = {name: told.model_copy(update={"pulse_directory": tmp_path / name}) for name in ("errands", "dispatcher")}
        worker, dispatcher = (Health(of[name]) for name in of)
        assert worker.now().detail == "none of its processes runs here"
        with (
            running("errands", WORKER, of["errands"], tmp_path) as main,
            running("dispatcher", ["-m", "workers.dispatcher"], of["dispatcher"], tmp_path) as dispatching,
        ):
            worker.until(State.OK, "2 processes")
            dispatcher.until(State.OK, "1 process")
            (working,) = set(pulse.silences(tmp_path / "errands")) - {main.pid}
            for pid in (working, dispatching.pid):
                os.kill(pid, signal.SIGSTOP)
            found = worker.until(State.FAIL, f"process {working} for")
            assert f"process {main.pid}" not in found.detail
            assert found.mend
            dispatcher.until(State.FAIL, f"process {dispatching.pid} for")
            for pid in (working, dispatching.pid):
                os.kill(pid, signal.SIGCONT)
            os.kill(main.pid, signal.SIGSTOP)
            worker.until(State.FAIL, f"process {main.pid} for")
            dispatcher.until(State.OK, "1 process")
            os.kill(main.pid, signal.SIGCONT)
            os.kill(working, signal.SIGKILL)  # another takes its place, and nobody waits for the dead
            deadline = time.monotonic() + 30
            while working in pulse.silences(tmp_path / "errands") or worker.now().state != State.OK:
                assert time.monotonic() < deadline, worker.now()
                time.sleep(0.2)


def test_where_nothing_is_told_of_it_nothing_is_looked_at() -> None:
    assert Health(Settings()).now().state == State.OK
