"""Tiles of a tree, 256 hashes wide, as C2SP tlog-tiles lays them out: what is complete never changes again.

A tile at level 0 holds hashes of leaves, one above it the roots of complete tiles below. An entry bundle holds the
entries themselves, each behind its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from builder.errors import Rejected
from builder.merkle.hashing import HASH_BYTES, node_hash
from builder.merkle.proofs import Nodes

WIDTH = 256
HEIGHT = 8
MAX_ENTRY = 0xFFFF
ENTRIES = "entries"
_INDEX = re.compile(r"(?:x\d{3}/)*\d{3}")
_WIDTH = re.compile(r"[1-9]\d{0,2}")
_CACHED = 64


class TileInvalid(Rejected):
    slug = "ledger-tile-invalid"
    title = "A tile of the ledger is not of its form"


@dataclass(frozen=True)
class Tile:
    """`level` is None for a bundle of entries. One that is narrower than 256 is partial."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Below `tile/`."""
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        level = ENTRIES if self.level is None else str(self.level)
        return f"{level}/{_index_path(self.index)}{partial}"


def tile_at(level: int | None, index: int, size: int) -> Tile | None:
    """A tile as it is in a tree of `size` leaves; None if it is not there yet."""
    width = min(WIDTH, (size >> (HEIGHT * (level or 0))) - index * WIDTH)
    return Tile(level, index, width) if width > 0 else None


def parse_path(path: str) -> Tile:
    """The tile that is named by a path below `tile/`. Raises TileInvalid."""
    kind, _, rest = path.partition("/")
    place, partial, width = rest.partition(".p/")
    level = None if kind == ENTRIES else int(kind) if re.fullmatch(r"\d|[1-5]\d|6[0-3]", kind, re.ASCII) else -1
    if level == -1 or not _INDEX.fullmatch(place) or not place.isascii():
        raise TileInvalid(f"{path[:100]!r} is no path of a tile", hint="tile/LEVEL/x001/234 or tile/entries/000.p/17")
    if partial and not (_WIDTH.fullmatch(width) and width.isascii() and int(width) < WIDTH):
        raise TileInvalid(f"{path[:100]!r} is no path of a partial tile", hint="its width is from 1 to 255")
    found = Tile(level, int(place.replace("/", "").replace("x", "")), int(width) if partial else WIDTH)
    if found.path != path:
        raise TileInvalid(f"{path[:100]!r} is written {found.path!r}")
    return found


def parse_hashes(content: bytes, tile: Tile) -> list[bytes]:
    """Raises TileInvalid."""
    if len(content) != tile.width * HASH_BYTES:
        raise TileInvalid(f"tile/{tile.path} has {len(content)} bytes, not {tile.width} hashes")
    return [content[start : start + HASH_BYTES] for start in range(0, len(content), HASH_BYTES)]


def bundle(entries: Sequence[bytes]) -> bytes:
    """Raises TileInvalid for an entry that is too long for its length to be told."""
    if any(len(entry) > MAX_ENTRY for entry in entries):
        raise TileInvalid(f"an entry is longer than {MAX_ENTRY} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_bundle(content: bytes, tile: Tile) -> list[bytes]:
    """Raises TileInvalid."""
    entries = list(_entries(content, tile))
    if len(entries) != tile.width:
        raise TileInvalid(f"tile/{tile.path} has {len(entries)} entries, not {tile.width}")
    return entries


def nodes_of(read: Callable[[Tile], list[bytes]], size: int) -> Nodes:
    """The complete subtrees of a tree of `size` leaves, from its tiles; each tile is read once for a proof."""

    @lru_cache(_CACHED)
    def hashes(level: int, index: int) -> list[bytes]:
        found = tile_at(level, index, size)
        if found is None:
            raise IndexError(f"a tree of size {size} has no tile {index} at level {level}")
        return read(found)

    def node(level: int, index: int) -> bytes:
        height, span = level % HEIGHT, 1 << level % HEIGHT
        start = index * span
        row = hashes(level // HEIGHT, start // WIDTH)[start % WIDTH : start % WIDTH + span]
        if len(row) != span:
            raise IndexError(f"a tree of size {size} has no complete subtree {index} at level {level}")
        for _ in range(height):
            row = [node_hash(*row[place : place + 2]) for place in range(0, len(row), 2)]
        return row[0]

    return node


def _entries(content: bytes, tile: Tile) -> Iterator[bytes]:
    place = 0
    while place < len(content):
        end = place + 2 + int.from_bytes(content[place : place + 2], "big")
        if end > len(content) or place + 2 > len(content):
            raise TileInvalid(f"tile/{tile.path} ends in the middle of an entry")
        yield content[place + 2 : end]
        place = end


def _index_path(index: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))
