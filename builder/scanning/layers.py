"""What Trivy found in each layer, remembered: of an image on a known base only its own layers are read anew.

Trivy keys what it keeps by the layer's diff ID and its own analysers, but takes one scan at a time in a directory. So
a scan borrows the memory if it is free, and does without it if not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTS = ("db", "java-db")
_LARGEST = 1024**3


class LayerMemory:
    """Below `directory`, one memory for each scanner: another version may look for more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def borrowed(self, scanner_sha256: str, database: Path) -> Iterator[Path | None]:
        """A cache directory for one scan with the database in `database`, or None while another scan has it."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield self._prepared(scanner_sha256[:16], database)
        finally:
            os.close(handle)

    def forget(self) -> None:
        """Start anew. Only for who has borrowed it."""
        for kept in self._directory.iterdir():
            if kept.is_dir():
                shutil.rmtree(kept, ignore_errors=True)

    def _prepared(self, name: str, database: Path) -> Path:
        cache = self._directory / name
        others = [kept for kept in self._directory.iterdir() if kept.is_dir() and kept != cache]
        if others or _size(cache / "fanal") > _LARGEST:
            self.forget()
        cache.mkdir(exist_ok=True, mode=0o700)
        for part in _PARTS:
            link = cache / part
            link.unlink(missing_ok=True)
            link.symlink_to(database / part)
        return cache


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*") if file.is_file())
