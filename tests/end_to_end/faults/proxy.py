"""A network that can be cut, slow or full of nonsense: a TCP proxy on loopback between our processes and a server."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum


class Mode(Enum):
    PASS = "pass"
    CUT = "cut"  # every connection ends at once, those that stand too
    SLOW = "slow"  # a tenth of a second before each piece
    GARBAGE = "garbage"  # whoever asks is answered with noise
    TORN = "torn"  # of an answer half of its first piece comes, and then nothing


class Proxy:
    def __init__(self, target: int) -> None:
        self._target = target
        self._mode = Mode.PASS
        self._open: set[socket.socket] = set()
        self._of = b""
        self.torn = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def behaving(self, mode: Mode, of: bytes = b"") -> Iterator[None]:
        """`of` is in the requests whose answers are torn."""
        self._mode, self._of = mode, of
        if mode is Mode.CUT:
            for one in list(self._open):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            self._mode = Mode.PASS

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self._mode is Mode.CUT:
                return
            if self._mode is Mode.GARBAGE:
                client.recv(4096)
                client.sendall(os.urandom(200))
                return
            with socket.create_connection(("127.0.0.1", self._target), 10) as server:
                self._open |= {client, server}
                asked: list[bytes] = []
                back = threading.Thread(target=self._pump, args=(server, client, asked), daemon=True)
                back.start()
                self._pump(client, server, None, asked)
                back.join()
                self._open -= {client, server}

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        asked: list[bytes] | None = None,
        asking: list[bytes] | None = None,
    ) -> None:
        """`asked` is what an answer's connection was last asked, `asking` where a request's is written down."""
        with suppress(OSError):
            while data := source.recv(65536):
                if asking is not None:
                    asking[:] = [data]
                if self._mode is Mode.SLOW:
                    time.sleep(0.1)
                if self._mode is Mode.TORN and asked and self._of in asked[0]:
                    self.torn += 1
                    target.sendall(data[: len(data) // 2])
                    source.shutdown(socket.SHUT_RDWR)
                    break
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
