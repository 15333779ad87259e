"""The tiles of a tree, one after the other as its leaves come: memory of one tile for each level."""

from __future__ import annotations

from collections.abc import Iterator

from builder.merkle.frontier import root_of
from builder.merkle.tiles import WIDTH, Tile


class Tower:
    def __init__(self) -> None:
        self._rows: list[list[bytes]] = [[]]
        self._complete = [0]

    def append(self, leaf: bytes) -> Iterator[tuple[Tile, list[bytes]]]:
        """Add a leaf hash; gives the tiles that are complete with it, from below. Take them all."""
        level, node = 0, leaf
        while True:
            row = self._rows[level]
            row.append(node)
            if len(row) < WIDTH:
                return
            yield Tile(level, self._complete[level]), row
            node = root_of(row)
            self._rows[level] = []
            self._complete[level] += 1
            level += 1
            if level == len(self._rows):
                self._rows.append([])
                self._complete.append(0)

    def partial(self) -> list[tuple[Tile, list[bytes]]]:
        """The tiles that are not complete."""
        return [(Tile(level, self._complete[level], len(row)), row) for level, row in enumerate(self._rows) if row]

    def complete(self) -> list[int]:
        """How many tiles are complete, at each level."""
        return list(self._complete)
