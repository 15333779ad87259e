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


class Proxy:
    def __init__(self, target: int) -> None:
        self._target = target
        self._mode = Mode.PASS
        self._open: set[socket.socket] = set()
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
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join()
                self._open -= {client, server}

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._mode is Mode.SLOW:
                    time.sleep(0.1)
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
