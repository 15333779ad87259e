"""The whole ledger held against what was signed, by whoever can read its tiles: from a service, or from files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from builder.ledger.checking import Checked
from builder.ledger.checkpoint import OpenedCheckpoint, open_checkpoint
from builder.ledger.damage import LedgerNotIntact, Reason
from builder.ledger.history import History, Kept
from builder.ledger.note import NoteInvalid, NoteNotSigned, VerifierKey
from builder.merkle.frontier import Frontier
from builder.merkle.hashing import leaf_hash
from builder.merkle.proofs import Nodes
from builder.merkle.tiles import WIDTH, Tile, TileInvalid, nodes_of, parse_bundle, parse_hashes, tile_at
from builder.merkle.tower import Tower

Read = Callable[[str], bytes]
"""The content below the prefix of a log, such as `checkpoint` or `tile/0/000`."""


def read_checkpoint(read: Read, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey] = ()) -> OpenedCheckpoint:
    """Raises LedgerNotIntact for one that is not signed as it should be."""
    try:
        return open_checkpoint(read("checkpoint"), keys, witnesses)
    except (NoteInvalid, NoteNotSigned) as error:
        raise LedgerNotIntact(Reason.CHECKPOINT_FORGED, error.detail) from error


def check_tiles(
    read: Read,
    newest: OpenedCheckpoint,
    given: Sequence[Kept] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Checked:
    """Every entry and every tile that `newest` signs. `given` are checkpoints that were kept. Raises LedgerNotIntact
    with the first place that is wrong, and what `read` raises."""
    size = newest.checkpoint.size
    own = Kept(newest.checkpoint, f"the newest checkpoint, of size {size},")
    history = History(sorted([*given, own], key=lambda one: one.checkpoint.size))
    tree, tower = Frontier(), Tower()
    history.reach(tree)
    for index in range(-(-size // WIDTH)):
        bundle = tile_at(None, index, size)
        assert bundle is not None, "the size says so"
        beside = Tile(0, bundle.index, bundle.width)
        leaves = [leaf_hash(entry) for entry in _read(read, bundle, parse_bundle)]
        _compare(beside, leaves, _read(read, beside, parse_hashes))
        for leaf in leaves:
            tree.append(leaf)
            for tile, hashes in tower.append(leaf):
                if tile.level:
                    _compare(tile, hashes, _read(read, tile, parse_hashes))
            history.reach(tree)
        progress(tree.size)
    for tile, hashes in tower.partial():
        if tile.level:
            _compare(tile, hashes, _read(read, tile, parse_hashes))
    history.end(tree)
    return Checked(tree.size, tree.root(), history.checked, history.agreed)


def nodes_by_tiles(read: Read, size: int) -> Nodes:
    """The subtrees of a log of `size` entries, for a proof over them; what they are worth, the proof shows."""
    return nodes_of(lambda tile: _read(read, tile, parse_hashes), size)


def _read(read: Read, tile: Tile, parse: Callable[[bytes, Tile], list[bytes]]) -> list[bytes]:
    try:
        return parse(read(f"tile/{tile.path}"), tile)
    except TileInvalid as error:
        raise LedgerNotIntact(Reason.UNREADABLE, error.detail) from error


def _compare(tile: Tile, made: list[bytes], given: list[bytes]) -> None:
    different = next((number for number, one in enumerate(made) if given[number] != one), None)
    if different is None:
        return
    if tile.level:
        raise LedgerNotIntact(Reason.TILE_EDITED, f"tile/{tile.path} was edited, in its hash {different}")
    place = tile.index * WIDTH + different
    if made[different] in given:
        twin = tile.index * WIDTH + given.index(made[different])
        raise LedgerNotIntact(Reason.RECORDS_REORDERED, f"entry {place} is the one that was appended as entry {twin}")
    raise LedgerNotIntact(
        Reason.RECORD_EDITED, f"entry {place} is not the one whose hash tile/{tile.path} has: one of them was edited"
    )
