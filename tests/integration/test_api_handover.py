"""The API is replaced by another process on the same socket, and no request is refused or lost on the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
from sqlalchemy import func, select

from builder.store import keys
from builder.store.database import Database
from builder.store.schema import Build

RECIPE = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: web}
spec:
  base: {debian: {suite: trixie}}
  publish: {repository: golden/web}
"""


def serve(listening: socket.socket, directory: Path, number: int) -> subprocess.Popen[bytes]:
    """An API process on a socket that somebody else holds, as systemd does; ready when this returns."""
    log = directory / f"api-{number}.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")}
    with log.open("wb") as out:
        child = subprocess.Popen(
            [
                sys.executable, "-m", "uvicorn", "--factory", "builder.api.app:create_app",
                "--fd", str(listening.fileno()), "--timeout-graceful-shutdown", "30",
            ],
            env=own | {
                "GOLDSMITH_DATABASE_URL": f"sqlite:///{directory / 'goldsmith.db'}",
                "GOLDSMITH_RECIPES_DIRECTORY": str(directory / "recipes"),
                "GOLDSMITH_STATE_DIRECTORY": str(directory),
                "GOLDSMITH_REQUESTS_PER_MINUTE": "0",
                "GOLDSMITH_JOBS_PER_MINUTE": "0",
            },
            pass_fds=(listening.fileno(),), stdout=out, stderr=out,
        )  # fmt: skip
    deadline = time.monotonic() + 40
    while b"Application startup complete" not in log.read_bytes():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return child


def test_no_request_is_refused_while_one_process_takes_over_from_another(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/web.yaml").write_text(RECIPE)
    database = Database(f"sqlite:///{tmp_path / 'goldsmith.db'}")
    database.migrate()
    with database.write() as session:
        key = keys.create_key(session, "ci")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        told: Counter[int] = Counter()
        done = threading.Event()

        def ask() -> None:
            """A connection for each request: one that is kept open may be closed while nothing is under way."""
            while not done.is_set():
                with httpx.Client(trust_env=False, timeout=30) as client:
                    answer = client.post(
                        f"{url}/v1/builds", json={"recipe": "web"}, headers={"Authorization": f"Bearer {key}"}
                    )
                    told[answer.status_code] += 1

        serving = serve(listening, tmp_path, 0)
        asking = [threading.Thread(target=ask) for _ in range(4)]
        try:
            for thread in asking:
                thread.start()
            for number in (1, 2):
                time.sleep(0.5)
                after = serve(listening, tmp_path, number)
                serving.send_signal(signal.SIGTERM)
                assert serving.wait(40) in (0, -signal.SIGTERM)  # uvicorn ends by the signal it got, once it is done
                serving = after
            time.sleep(0.5)
        finally:
            done.set()
            for thread in asking:
                thread.join()
            serving.send_signal(signal.SIGTERM)
            serving.wait(40)
    assert set(told) == {202}
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Build)) == told[202]
    database.close()
