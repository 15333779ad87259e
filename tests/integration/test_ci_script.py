"""What the script for CI systems sends and tells: the script itself, at a server that answers as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "ci/shell/goldsmith-build.sh"
BUILD = {
    "id": "01", "recipe": "web", "state": "released", "finishedAt": "2030-01-01T00:00:00Z", "lines": [],
    "result": {"digest": "sha256:0", "reference": "r/web@sha256:0"},
}  # fmt: skip


class Server(ThreadingHTTPServer):
    """Keeps the keys of the builds that it is asked for; its answers are one status and one body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = status, body
        self.keys: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Idempotency-Key"])
        self.do_GET()

    def do_GET(self) -> None:
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(status: int = 200, body: bytes = json.dumps(BUILD).encode()) -> Iterator[Server]:
    with Server(status, body) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def job(server: Server, **variables: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{server.server_port}"
    env = {"PATH": os.environ["PATH"], "GOLDSMITH_URL": url, "GOLDSMITH_API_KEY": "k", **variables}
    return subprocess.run(["bash", SCRIPT, "web"], env=env, capture_output=True, text=True, check=False, timeout=60)


def test_a_run_has_its_key_however_long_its_name_is() -> None:
    with serving() as server:
        for run in ("run-1", "run-1", "run-2", "x" * 400 + "-1", "x" * 400 + "-2"):
            done = job(server, GOLDSMITH_RUN=run)
            assert done.returncode == 0, done.stderr
        done = job(server, GITHUB_RUN_ID="7", GITHUB_JOB="image")
        assert done.returncode == 0, done.stderr
    short, again, other, long, another, github = server.keys
    assert short is not None
    assert short.startswith("run-1-")
    assert short == again
    assert github is not None
    assert github.startswith("github-7-1-image-")
    assert long is not None
    assert len(long) == 200
    assert len({short, other, long, another, github}) == 5


def test_a_refusal_is_told_with_its_reason() -> None:
    said = {"title": "The queue is full", "detail": "500 builds wait", "hint": "try again later"}
    with serving(409, json.dumps(said).encode()) as server:
        done = job(server)
    assert (done.returncode, done.stderr) == (1, "goldsmith: The queue is full: 500 builds wait (try again later)\n")


def test_an_answer_that_says_nothing_is_told_by_its_status() -> None:
    for body in (b"", b"{}", b'"no"', b"<html>"):
        with serving(404, body) as server:
            done = job(server)
        assert done.returncode == 1
        url = f"http://127.0.0.1:{server.server_port}"
        assert done.stderr == f"goldsmith: {url} answered 404: is there a Goldsmith API at this address?\n"
