"""File contents on their way through: hashed, and written to one unnamed file, by a thread while the next are read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from builder.image.digests import CHUNK


class Spool:
    """Takes contents one after the other, then gives any of them back. Its file has no name, so none is left behind.

    `put` and `finish` raise OSError where the disk does, `finish` at the latest.
    """

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting: list[tuple[bytes, bytes | None]] = []
        self._length = 0
        self._working: Future[None] | None = None
        self._digest = hashlib.sha256()
        self._digests: dict[bytes, str] = {}
        self._end = 0

    def put(self, name: bytes, content: Iterable[bytes]) -> int:
        """Take a file's content; give the offset that it will be at."""
        start = self._end
        for chunk in content:
            self._waiting.append((name, chunk))
            self._length += len(chunk)
            self._end += len(chunk)
            if self._length >= CHUNK:
                self._hand_over()
        self._waiting.append((name, None))
        return start

    def finish(self) -> dict[bytes, str]:
        """Nothing more comes: wait until everything is written. Gives the SHA-256 of each name's content, in hex."""
        self._hand_over()
        self._wait()
        self._thread.shutdown()
        digests, self._digests = self._digests, {}
        return digests

    def read(self, offset: int, size: int) -> Iterator[bytes]:
        """`size` bytes from `offset` on, in chunks of at most 1 MiB; less if they were never written."""
        while size and (chunk := os.pread(self._file.fileno(), min(size, CHUNK), offset)):
            size -= len(chunk)
            offset += len(chunk)
            yield chunk

    def close(self) -> None:
        self._thread.shutdown()
        self._file.close()

    def _hand_over(self) -> None:
        self._wait()
        self._working = self._thread.submit(self._work, self._waiting)
        self._waiting, self._length = [], 0

    def _wait(self) -> None:
        if self._working is not None:
            self._working.result()

    def _work(self, pieces: list[tuple[bytes, bytes | None]]) -> None:
        for name, chunk in pieces:
            if chunk is not None:
                self._digest.update(chunk)
            else:
                self._digests[name] = self._digest.hexdigest()
                self._digest = hashlib.sha256()
        left = memoryview(b"".join([chunk for _, chunk in pieces if chunk]))
        while left:
            left = left[self._file.write(left) :]
