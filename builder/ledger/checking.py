"""The whole ledger held against itself and against what was signed, in the database: one pass, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from builder.ledger import checkpoints, stored
from builder.ledger.damage import LedgerNotIntact, Reason
from builder.ledger.history import History, Kept
from builder.ledger.note import VerifierKey
from builder.ledger.stored import LedgerDamaged, StoredEntry
from builder.merkle.frontier import Frontier, root_of
from builder.merkle.hashing import HASH_BYTES
from builder.merkle.tiles import WIDTH, Tile
from builder.merkle.tower import Tower
from builder.store.schema import LedgerLeaf, LedgerTile, Record


@dataclass(frozen=True)
class Checked:
    """`checkpoints` have been held against the tree; `signed` is the size of the largest of them."""

    size: int
    root: bytes
    checkpoints: int
    signed: int


def check_database(
    session: Session,
    keys: Sequence[VerifierKey],
    given: Sequence[Kept] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Checked:
    """Every record, leaf, tile and checkpoint. `given` are checkpoints that somebody kept elsewhere. Raises
    LedgerNotIntact with the first place that is wrong."""
    history = History(sorted(given, key=lambda one: one.checkpoint.size), checkpoints.kept(session, keys))
    tree, tower = Frontier(), Tower()
    history.reach(tree)
    while page := stored.entries(session, tree.size, tree.size + WIDTH):
        for entry in page:
            leaf = _leaf(session, entry, tree.size)
            tree.append(leaf)
            for tile, hashes in tower.append(leaf):
                _check_tile(session, tile, hashes)
            history.reach(tree)
        progress(tree.size)
    history.end(tree)
    _check_nothing_else(session, tree, tower)
    return Checked(tree.size, tree.root(), history.checked, history.agreed)


def _leaf(session: Session, entry: StoredEntry, place: int) -> bytes:
    if entry.place != place:
        raise LedgerNotIntact(Reason.RECORD_REMOVED, f"entry {place} is missing; the next one is {entry.place}")
    leaf = entry.hash
    if leaf is None:
        raise LedgerNotIntact(Reason.RECORD_REMOVED, f"record {entry.number}, entry {place}, is gone")
    if leaf != entry.kept or entry.body_digest != entry.digest:
        raise _altered(session, entry, leaf)
    return leaf


def _altered(session: Session, entry: StoredEntry, leaf: bytes) -> LedgerNotIntact:
    """Why a record is not what its leaf says."""
    what = f"record {entry.number}, entry {entry.place},"
    twin = session.scalar(select(LedgerLeaf.place).where(LedgerLeaf.hash == leaf).limit(1))
    if twin not in (None, entry.place):
        return LedgerNotIntact(Reason.RECORDS_REORDERED, f"{what} is the one that was appended as entry {twin}")
    tile = _kept_tile(session, Tile(0, entry.place // WIDTH))
    if leaf != entry.kept and tile is not None and _hash_in(tile[0], entry.place % WIDTH) == leaf:
        return LedgerNotIntact(Reason.LEAF_EDITED, f"the leaf of entry {entry.place} was edited; its record was not")
    if entry.body_digest != entry.digest:
        why = f"its body has the digest {entry.body_digest}, and was recorded as {entry.digest}"
    else:
        why = "its build, image, time or body is not what was appended"
    return LedgerNotIntact(Reason.RECORD_EDITED, f"{what} was edited: {why}")


def _check_tile(session: Session, tile: Tile, hashes: list[bytes]) -> None:
    kept = _kept_tile(session, tile)
    if kept is None:
        raise LedgerNotIntact(Reason.TILE_MISSING, f"tile/{tile.path} is gone")
    content, root = kept
    if content == b"".join(hashes) and root == root_of(hashes):
        return
    different = [number for number, one in enumerate(hashes) if _hash_in(content, number) != one]
    whole = len(content) == WIDTH * HASH_BYTES
    own = [content[start : start + HASH_BYTES] for start in range(0, len(content), HASH_BYTES)]
    if tile.level == 0 and different and whole and root_of(own) == root:
        place = tile.index * WIDTH + different[0]
        raise LedgerNotIntact(
            Reason.RECORD_EDITED, f"entry {place} and its leaf were edited: they are not what tile/{tile.path} has"
        )
    where = f"in its hash {different[0]}" if different else "in its root"
    raise LedgerNotIntact(Reason.TILE_EDITED, f"tile/{tile.path} was edited, {where}")


def _check_nothing_else(session: Session, tree: Frontier, tower: Tower) -> None:
    """The head, and that there are no tiles and no records but those of the tree."""
    try:
        head = stored.head(session)
    except LedgerDamaged as error:
        raise LedgerNotIntact(Reason.HEAD_EDITED, error.detail) from error
    if head.size > tree.size:
        raise LedgerNotIntact(
            Reason.SHORTENED, f"{head.size} entries were appended, and there are {tree.size}: the last are gone"
        )
    if (head.size, head.hashes) != (tree.size, tree.hashes):
        raise LedgerNotIntact(
            Reason.HEAD_EDITED,
            f"the head, of {head.size} entries, has another root: it was edited, or what no checkpoint covers yet",
        )
    known = select(LedgerLeaf.record_number).where(LedgerLeaf.record_number == Record.number)
    number = session.scalar(select(func.min(Record.number)).where(~known.exists()))
    if number is not None:
        raise LedgerNotIntact(Reason.RECORD_INSERTED, f"record {number} was never appended")
    if session.scalar(select(func.count()).select_from(LedgerTile)) != sum(tower.complete()):
        raise LedgerNotIntact(Reason.TILE_EDITED, "there are tiles that such a tree does not have")


def _kept_tile(session: Session, tile: Tile) -> tuple[bytes, bytes] | None:
    query = select(LedgerTile.hashes, LedgerTile.root)
    row = session.execute(query.where(LedgerTile.level == tile.level, LedgerTile.place == tile.index)).first()
    return (row.hashes, row.root) if row else None


def _hash_in(content: bytes, number: int) -> bytes:
    return content[number * HASH_BYTES : (number + 1) * HASH_BYTES]
