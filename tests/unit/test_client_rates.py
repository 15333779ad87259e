"""A client that asked too often waits for as long as it is told, and no longer than twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from builder.client.api import Client
from builder.client.errors import ApiProblem

PROBLEM = b'{"type":"/problems/rate-limited","title":"t","status":429,"detail":"d"}'


@pytest.fixture
def refusals() -> list[str]:
    """The `Retry-After` of each refusal that is still to come."""
    return []


@pytest.fixture
def url(refusals: list[str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            after = refusals.pop(0) if refusals else None
            body = PROBLEM if after is not None else b'{"recipes":[],"invalid":{}}'
            self.send_response(429 if after is not None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if after is not None:
                self.send_header("Retry-After", after)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("builder.client.api.time.sleep", found.append)
    return found


def test_it_waits_and_is_answered(url: str, refusals: list[str], waits: list[float]) -> None:
    refusals += ["7", "2"]
    with Client(url, "k") as client:
        assert client.recipes().recipes == ()
    assert waits == [7.0, 2.0]


@pytest.mark.parametrize(("told", "waited"), [(["1", "1", "1"], [1.0, 1.0]), (["3600"], []), (["tomorrow"], [])])
def test_it_does_not_wait_for_ever(
    url: str, refusals: list[str], waits: list[float], told: list[str], waited: list[float]
) -> None:
    refusals += told
    with Client(url, "k") as client, pytest.raises(ApiProblem):
        client.recipes()
    assert waits == waited
