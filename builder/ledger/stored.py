"""The tree in the database: a leaf for each record, tiles once they are complete, and one head that appenders hold.

Nothing but the head is ever changed. What is not complete yet is put together when it is asked for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from builder.errors import Broken, Rejected
from builder.ledger.entry import entry_bytes
from builder.merkle.frontier import Frontier, root_of
from builder.merkle.hashing import HASH_BYTES, leaf_hash
from builder.merkle.proofs import Nodes
from builder.merkle.tiles import WIDTH, Tile, nodes_of, tile_at
from builder.store.schema import LedgerHead, LedgerLeaf, LedgerTile, Record

_HEAD = 1


class LedgerDamaged(Broken):
    """The ledger is not what was appended to it. `goldsmith ledger verify --database` says where."""

    slug = "ledger-damaged"
    title = "The ledger is damaged"


class TileUnknown(Rejected):
    slug = "ledger-tile-unknown"
    title = "The ledger has no such tile"
    status = 404


@dataclass(frozen=True)
class StoredEntry:
    """A record's entry, made of the record as it is now; `kept` is the leaf hash from when it was appended. `digest` is
    what the row says of its body, and `body_digest` what it has. All three are None when the record is gone."""

    place: int
    number: int
    digest: str | None
    body_digest: str | None
    entry: bytes | None
    kept: bytes

    @property
    def hash(self) -> bytes | None:
        return leaf_hash(self.entry) if self.entry is not None else None


def append_leaf(session: Session, record: Record, record_format: str) -> int:
    """Add a record's entry to the tree, in the transaction that adds the record. Answers its place.

    Appenders take turns: the head's row is held until the transaction ends, so that there is one order and no gap.
    """
    tree = _frontier(session, held=True)
    entry = entry_bytes(record.build_id, record.image_digest, record.digest, record_format, record.recorded_at)
    leaf, place = leaf_hash(entry), tree.size
    tree.append(leaf)
    session.execute(
        insert(LedgerLeaf).values(place=place, record_number=record.number, format=record_format, hash=leaf)
    )
    level, size = 0, tree.size
    while size % WIDTH == 0:
        hashes = read_tile(session, Tile(level, size // WIDTH - 1), tree.size, complete=False)
        values = {"level": level, "place": size // WIDTH - 1, "hashes": b"".join(hashes), "root": root_of(hashes)}
        session.execute(insert(LedgerTile).values(values))
        level, size = level + 1, size // WIDTH
    session.execute(update(LedgerHead).where(LedgerHead.id == _HEAD).values(size=tree.size, frontier=tree.hashes))
    return place


def head(session: Session) -> Frontier:
    return _frontier(session, held=False)


def nodes(session: Session, size: int) -> Nodes:
    """The complete subtrees of the first `size` leaves. Raises LedgerDamaged for what is not there."""
    return nodes_of(lambda tile: read_tile(session, tile, size), size)


def read_tile(session: Session, tile: Tile, size: int, *, complete: bool = True) -> list[bytes]:
    """The hashes of a tile in a tree of `size` leaves, or of its first `width`. `complete` is False while the tile is
    being made. Raises TileUnknown for what such a tree does not have, LedgerDamaged when hashes are gone."""
    whole = tile_at(tile.level, tile.index, size)
    if tile.level is None or whole is None or whole.width < tile.width:
        raise TileUnknown(f"a ledger of {size} entries has no tile/{tile.path}")
    if complete and whole.width == WIDTH:
        key = (tile.level, tile.index)
        found = session.scalars(select(LedgerTile.hashes).where(LedgerTile.level == key[0], LedgerTile.place == key[1]))
        kept = found.one_or_none() or b""
        hashes = [kept[start : start + HASH_BYTES] for start in range(0, len(kept), HASH_BYTES)][: tile.width]
    else:
        start = tile.index * WIDTH
        below = select(LedgerLeaf.hash).where(LedgerLeaf.place >= start, LedgerLeaf.place < start + tile.width)
        query = below.order_by(LedgerLeaf.place)
        if tile.level:
            roots = select(LedgerTile.root).where(LedgerTile.level == tile.level - 1)
            within = roots.where(LedgerTile.place >= start, LedgerTile.place < start + tile.width)
            query = within.order_by(LedgerTile.place)
        hashes = list(session.scalars(query))
    if len(hashes) != tile.width or any(len(one) != HASH_BYTES for one in hashes):
        raise LedgerDamaged(f"tile/{tile.path} of the ledger is not whole", hint="`goldsmith ledger verify --database`")
    return hashes


def entries(session: Session, start: int, end: int) -> list[StoredEntry]:
    """The entries from place `start` to before `end`, as far as there are any, in order."""
    query = (
        select(
            LedgerLeaf.place, LedgerLeaf.record_number, LedgerLeaf.format, LedgerLeaf.hash, Record.build_id,
            Record.image_digest, Record.digest, Record.body, Record.recorded_at,
        )
        .outerjoin(Record, Record.number == LedgerLeaf.record_number)
        .where(LedgerLeaf.place >= start, LedgerLeaf.place < end)
        .order_by(LedgerLeaf.place)
    )  # fmt: skip
    found = []
    for row in session.execute(query):
        body_digest = entry = None
        if row.body is not None:
            # What the row says of its own digest counts for nothing.
            body_digest = f"sha256:{hashlib.sha256(row.body).hexdigest()}"
            entry = entry_bytes(row.build_id, row.image_digest, body_digest, row.format, row.recorded_at)
        found.append(StoredEntry(row.place, row.record_number, row.digest, body_digest, entry, row.hash))
    return found


def _frontier(session: Session, *, held: bool) -> Frontier:
    query = select(LedgerHead.size, LedgerHead.frontier).where(LedgerHead.id == _HEAD)
    row = session.execute(query.with_for_update() if held else query).first()
    try:
        if row is not None:
            return Frontier(row.size, row.frontier)
    except ValueError as error:
        raise LedgerDamaged(f"the ledger's head cannot be: {error}") from error
    raise LedgerDamaged("the ledger has lost its head", hint="an operator must restore the table ledger_head")
