"""Sorts more items than memory holds: sorted runs in one unnamed file, merged while they are read back."""

from __future__ import annotations

import heapq
import marshal
import os
import tempfile
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from builder.image.tarheader import ArchiveTooLarge

_MOST_WEIGHT = 24 * 1024 * 1024
_BLOCK_WEIGHT = 64 * 1024
_MOST_SPILLED = 4 * 1024**3

Item = tuple[Any, ...]
"""Its first member is what it is sorted by, its second the bytes that it takes in memory, roughly; the rest are plain
values of Python's own types."""

_key = itemgetter(0)


class Runs:
    """Takes items, then gives them all, sorted, as often as is asked.

    At most 24 MiB of items are in memory while they are taken, and 64 KiB of each run while they are read. Items that
    come in order make a single run, however many they are. Few items make no file at all. Close it to give its space
    back. `add` raises ArchiveTooLarge past 4 GiB, and OSError where the disk does.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: list[Item] = []
        self._weight = 0
        self._file: IO[bytes] | None = None
        self._runs: list[tuple[int, int]] = []
        self._end = 0
        self._last: Any = None

    def add(self, item: Item) -> None:
        self._held.append(item)
        self._weight += item[1]
        if self._weight >= _MOST_WEIGHT:
            self._spill()

    def __bool__(self) -> bool:
        return bool(self._held or self._runs)

    def __iter__(self) -> Iterator[Item]:
        if self._file is None:
            self._held.sort(key=_key)
            return iter(self._held)
        if self._held:
            self._spill()
        runs = [self._read(self._file.fileno(), start, end) for start, end in self._runs]
        return heapq.merge(*runs, key=_key) if len(runs) > 1 else runs[0]

    def close(self) -> None:
        self._held = []
        if self._file is not None:
            self._file.close()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
        self._held.sort(key=_key)
        start = self._end
        if self._runs and self._held[0][0] >= self._last:
            start, _ = self._runs.pop()
        for block in _blocks(self._held):
            # No format to keep: this process alone reads it, from a file that nobody else can open.
            data = marshal.dumps(block)
            self._file.write(len(data).to_bytes(8, "big") + data)
            self._end += 8 + len(data)
            if self._end > _MOST_SPILLED:
                raise ArchiveTooLarge(f"the names and attributes in the archive take more than {_MOST_SPILLED} bytes")
        self._file.flush()
        self._runs.append((start, self._end))
        self._last = self._held[-1][0]
        self._held, self._weight = [], 0

    @staticmethod
    def _read(file: int, position: int, end: int) -> Iterator[Item]:
        while position < end:
            size = int.from_bytes(os.pread(file, 8, position), "big")
            yield from marshal.loads(os.pread(file, size, position + 8))  # noqa: S302
            position += 8 + size


def _blocks(items: list[Item]) -> Iterator[list[Item]]:
    block: list[Item] = []
    weight = 0
    for item in items:
        block.append(item)
        weight += item[1]
        if weight >= _BLOCK_WEIGHT:
            yield block
            block, weight = [], 0
    if block:
        yield block
