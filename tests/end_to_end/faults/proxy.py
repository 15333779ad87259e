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


class Proxy:
    def __init__(self, target: int) -> None:
        self._target = target
        self._mode = Mode.PASS
        self._open: set[socket.socket] = set()
        self._lie: tuple[bytes, bytes] | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def behaving(self, mode: Mode) -> Iterator[None]:
        self._mode = mode
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
                back = threading.Thread(target=self._pump, args=(server, client, self._told), daemon=True)
                back.start()
                self._pump(client, server, bytes)
                back.join()
                self._open -= {client, server}

    def _told(self, answer: bytes) -> bytes:
        return answer.replace(*self._lie) if self._lie else answer

    def _pump(self, source: socket.socket, target: socket.socket, told: Callable[[bytes], bytes]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._mode is Mode.SLOW:
                    time.sleep(0.1)
                target.sendall(told(data))
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
