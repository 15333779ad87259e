"""Whoever follows a build is told everything once, though the API is killed and started again on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from builder.client.api import Client
from builder.client.events import Ended, Logged, StateChanged, StepChanged
from builder.errors import Problem
from builder.store import builds, journal, keys
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.journal import Line
from builder.store.states import BUILD, State
from tests.unit.evidence import digest

LINES = 400


class Process:
    """The API in a process of its own, always on one port."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        (directory / "recipes").mkdir()
        own = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")}
        self.environment = own | {
            "GOLDSMITH_DATABASE_URL": f"sqlite:///{directory / 'goldsmith.db'}",
            "GOLDSMITH_RECIPES_DIRECTORY": str(directory / "recipes"), "GOLDSMITH_STATE_DIRECTORY": str(directory),
        }  # fmt: skip
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [
            sys.executable, "-m", "uvicorn", "--factory", "builder.api.app:create_app", "--host", "127.0.0.1",
            "--port", str(self.port), "--log-level", "error",
        ]  # fmt: skip
        self.child = subprocess.Popen(argv, env=self.environment)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/healthz", trust_env=False).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the API did not start")

    def kill(self) -> None:
        if self.child is not None:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()
            self.child = None


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path)
    found.start()
    yield found
    found.kill()


def play(database: Database, build_id: str) -> None:
    """A worker: a few steps, and many lines."""
    with database.write() as session:
        held = builds.claim(session, build_id, BUILD, "w", 60)
        assert held is not None
    for step in range(8):
        with database.write() as session:
            number = journal.begin_step(session, build_id, 1, f"step-{step}")
        for line in range(0, LINES // 8, 5):
            with database.write() as session:
                texts = [Line(1.0, f"step-{step}", f"{step}/{line + offset}") for offset in range(5)]
                assert journal.append_log(session, build_id, texts, token=held.token)
            time.sleep(0.05)
        with database.write() as session:
            journal.finish_step(session, number, "done", "")
    why = Problem(type="/problems/run-failed", title="A command failed", status=422, detail="exit code 3")
    with database.write() as session:
        builds.end(session, builds.get(session, build_id), State.FAILED, why)


def test_a_follower_is_told_each_line_step_and_state_once(process: Process) -> None:
    database = Database(process.environment["GOLDSMITH_DATABASE_URL"])
    with database.write() as session:
        key = keys.create_key(session, "ci")
        build_id = builds.submit(session, Submission("web", digest("1"), "{}", "request", "ci")).id
    worker = threading.Thread(target=play, args=(database, build_id))

    def disturb() -> None:
        for _ in range(3):
            time.sleep(0.8)
            process.kill()
            process.start()

    disturber = threading.Thread(target=disturb)
    lost: list[str] = []
    with Client(process.url, key) as client:
        worker.start()
        disturber.start()
        told = list(client.follow(build_id, on_lost=lost.append))
    worker.join()
    disturber.join()
    database.close()
    assert lost, "the follower was never disturbed"
    logged = [one.line for one in told if isinstance(one, Logged)]
    assert [line.number for line in logged] == list(range(1, LINES + 1))
    assert [line.text for line in logged] == [f"{step}/{line}" for step in range(8) for line in range(LINES // 8)]
    steps = [(one.step.name, one.step.state) for one in told if isinstance(one, StepChanged)]
    assert len(set(steps)) == len(steps)
    assert [step for step in steps if step[1] == "done"] == [(f"step-{number}", "done") for number in range(8)]
    states = [one.state for one in told if isinstance(one, StateChanged)]
    assert len(set(states)) == len(states)
    assert states[-1] == "failed"
    assert isinstance(told[-1], Ended)
    assert json.loads(told[-1].build.model_dump_json())["state"] == "failed"
