"""A network that can be cut, slow, full of nonsense or of lies: a TCP proxy on loopback before a server."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
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
        self._lie: tuple[bytes, bytes] | None = None
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

    @contextmanager
    def lying(self, truth: bytes, lie: bytes) -> Iterator[None]:
        """Answers have a lie where they had the truth. Both are of one length, or nobody could read the answers."""
        assert len(truth) == len(lie)
        self._lie = truth, lie
        try:
            yield
        finally:
            self._lie = None

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

                def asking(data: bytes) -> bytes:
                    asked[:] = [data]
                    return data

                def told(data: bytes) -> bytes:
                    if self._mode is Mode.TORN and asked and self._of in asked[0]:
                        self.torn += 1
                        server.shutdown(socket.SHUT_RDWR)
                        return data[: len(data) // 2]
                    return data.replace(*self._lie) if self._lie else data

                back = threading.Thread(target=self._pump, args=(server, client, told), daemon=True)
                back.start()
                self._pump(client, server, asking)
                back.join()
                self._open -= {client, server}

    def _pump(self, source: socket.socket, target: socket.socket, passed_on: Callable[[bytes], bytes]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._mode is Mode.SLOW:
                    time.sleep(0.1)
                target.sendall(passed_on(data))
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
