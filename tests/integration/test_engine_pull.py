"""The engine pulls from any registry that a recipe names, and takes each login to its own registry alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from builder.engine.docker import BaseUnavailable, Engine, Limits
from builder.engine.faults import EngineFailed

OURS = "registry.example.com"


class Stranger(ThreadingHTTPServer):
    """A registry that asks for a login and notes what it is given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asking)
        self.given: list[str | None] = []


class _Asking(BaseHTTPRequestHandler):
    server: Stranger

    def do_GET(self) -> None:
        self.server.given.append(self.headers.get("Authorization"))
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="give me"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    server = Stranger()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("told", [False, True])
def test_a_login_goes_to_its_own_registry_alone(docker_engine: str, stranger: Stranger, told: bool) -> None:
    host = f"127.0.0.1:{stranger.server_port}"
    logins = {OURS: ("robot", "s3cret"), **({host: ("guest", "known-to-them")} if told else {})}
    engine = Engine(docker_engine, Limits(256 << 20, 1, 64), logins.get)
    try:
        with pytest.raises((BaseUnavailable, EngineFailed)):
            engine.pull(f"{host}/some/base@sha256:{'0' * 64}")
    finally:
        engine.close()
    assert stranger.given, "it was asked"
    # With a login that is its own it is sent one: so the first case proves something.
    assert any(stranger.given) == told
