"""File contents on their way through: one unnamed file, written by a thread of its own while the next are hashed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from builder.image.digests import CHUNK


class Spool:
    """Takes bytes one after the other, then gives any of them back. Its file has no name: nothing can be left behind.

    Raises OSError where the disk does, at the latest from `finish`.
    """

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._gathered: list[bytes] = []
        self._length = 0
        self._writing: Future[None] | None = None
        self.end = 0

    def append(self, data: bytes) -> None:
        self._gathered.append(data)
        self._length += len(data)
        self.end += len(data)
        if self._length >= CHUNK:
            self._hand_over()

    def finish(self) -> None:
        """Nothing more comes: wait until everything is written."""
        self._hand_over()
        self._wait()
        self._thread.shutdown()

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
        self._writing = self._thread.submit(self._write, b"".join(self._gathered))
        self._gathered, self._length = [], 0

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
