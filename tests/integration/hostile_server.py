"""A small HTTP server that answers as a test tells it to, and remembers what it was sent."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    claimed_length: int | None = None
    seconds_between_bytes: float = 0.0


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Server:
    address: str
    requests: list[Request] = field(default_factory=list)

    def sent(self, name: str) -> list[str]:
        """The values of a header in all requests that had it."""
        return [request.headers[name] for request in self.requests if name in request.headers]


@contextmanager
def answering(answer: Callable[[Request], Answer]) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Request(self.command, self.path, {key.lower(): value for key, value in self.headers.items()})
            server.requests.append(request)
            given = answer(request)
            self.send_response(given.status)
            length = len(given.body) if given.claimed_length is None else given.claimed_length
            for key, value in {"Content-Length": str(length), **given.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD" and given.seconds_between_bytes:
                with suppress(OSError):
                    for byte in given.body:
                        self.wfile.write(bytes([byte]))
                        time.sleep(given.seconds_between_bytes)
            elif self.command != "HEAD":
                self.wfile.write(given.body)
            self.close_connection = True

        def __getattr__(self, name: str) -> Callable[[], None]:
            if not name.startswith("do_"):
                raise AttributeError(name)
            return self.handle_one

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
