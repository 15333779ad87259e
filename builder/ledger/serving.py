"""What a log serves to whoever reads it by tiles, and the proofs for whoever would rather ask."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from builder.errors import Rejected
from builder.ledger import checkpoints, stored
from builder.ledger.proof import LedgerProof
from builder.ledger.stored import LedgerDamaged, StoredEntry, TileUnknown
from builder.merkle.proofs import consistency_proof, inclusion_proof
from builder.merkle.tiles import WIDTH, Tile, bundle, tile_at
from builder.store.schema import LedgerLeaf, Record


class EntryUnknown(Rejected):
    slug = "ledger-entry-unknown"
    title = "The ledger has no such entry"
    status = 404


def tile_content(session: Session, tile: Tile) -> bytes:
    """A tile, or a bundle of entries made of the records as they are now. Raises TileUnknown and LedgerDamaged."""
    size = stored.head(session).size
    if tile.level is not None:
        return b"".join(stored.read_tile(session, tile, size))
    whole = tile_at(None, tile.index, size)
    if whole is None or whole.width < tile.width:
        raise TileUnknown(f"a ledger of {size} entries has no tile/{tile.path}")
    start = tile.index * WIDTH
    found = [one.entry for one in stored.entries(session, start, start + tile.width)]
    present = [entry for entry in found if entry is not None]
    if len(present) != tile.width:
        raise LedgerDamaged(f"records of tile/{tile.path} are gone", hint="`goldsmith ledger verify --database`")
    return bundle(present)


def entry_at(session: Session, index: int) -> StoredEntry:
    """Raises EntryUnknown and LedgerDamaged."""
    found = stored.entries(session, index, index + 1)
    if not found:
        raise EntryUnknown(f"the ledger has no entry {index}", hint="entries are counted from 0")
    if found[0].entry is None:
        raise LedgerDamaged(f"the record of entry {index} is gone", hint="`goldsmith ledger verify --database`")
    return found[0]


def record_at(session: Session, index: int) -> bytes:
    """Raises EntryUnknown and LedgerDamaged."""
    number = entry_at(session, index).number
    return session.execute(select(Record.body).where(Record.number == number)).scalar_one()


def index_of(session: Session, digest: str) -> int:
    """The place of a record by its digest, or of the newest release record about an image by the image's.

    Raises EntryUnknown."""
    for found in (Record.digest == digest, Record.image_digest == digest):
        # Of one digest there are few: without the fence a planner may walk the whole ledger from its end.
        numbers = select(Record.number).where(found).cte().prefix_with("MATERIALIZED", dialect="postgresql")
        query = select(func.max(LedgerLeaf.place)).where(LedgerLeaf.record_number.in_(select(numbers.c.number)))
        place = session.scalar(query)
        if place is not None:
            return place
    raise EntryUnknown(f"no record and no image with the digest {digest} is in the ledger")


def prove_inclusion(session: Session, index: int, size: int) -> list[bytes]:
    """Raises EntryUnknown."""
    if not 0 <= index < size <= stored.head(session).size:
        raise EntryUnknown(f"a ledger of {size} entries has no entry {index}, or is not yet so large")
    return inclusion_proof(index, size, stored.nodes(session, size))


def prove_consistency(session: Session, first: int, second: int) -> list[bytes]:
    """Raises EntryUnknown."""
    if not 0 < first <= second <= stored.head(session).size:
        raise EntryUnknown(f"the ledger did not grow from {first} to {second} entries")
    return consistency_proof(first, second, stored.nodes(session, second))


def signed_proof(session: Session, index: int) -> LedgerProof:
    """The inclusion of an entry in the newest checkpoint. Raises EntryUnknown and CheckpointUnknown."""
    note = checkpoints.newest(session)
    hashes = prove_inclusion(session, index, checkpoints.newest_size(session))
    return LedgerProof(index, tuple(hashes), note.encode())
