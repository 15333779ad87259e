"""The checkpoints that were signed, in the database, with the keys they were signed with and what witnesses added."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from builder.errors import Rejected
from builder.ledger.checkpoint import open_checkpoint, parse_checkpoint
from builder.ledger.damage import LedgerNotIntact, Reason
from builder.ledger.history import Kept
from builder.ledger.note import Kind, Note, NoteInvalid, NoteNotSigned, VerifierKey, parse_key, parse_note
from builder.store.schema import LedgerCheckpoint, LedgerCosignature, LedgerKey

_PAGE = 500


class CheckpointUnknown(Rejected):
    slug = "checkpoint-unknown"
    title = "There is no such checkpoint"
    status = 404


class CosignatureRefused(Rejected):
    slug = "cosignature-refused"
    title = "The checkpoint is not cosigned by a witness"


def newest_size(session: Session) -> int:
    """The size of the newest checkpoint, 0 when there is none."""
    return session.scalar(select(func.max(LedgerCheckpoint.size))) or 0


def published_size(session: Session) -> int:
    """The size of the newest one that is in the registry, too."""
    return (
        session.scalar(select(func.max(LedgerCheckpoint.size)).where(LedgerCheckpoint.published_at.is_not(None))) or 0
    )


def find(session: Session, size: int) -> Note | None:
    """The checkpoint of a size, with what witnesses have added to it."""
    row = session.get(LedgerCheckpoint, size)
    if row is None:
        return None
    query = select(LedgerCosignature.line).where(LedgerCosignature.size == size).order_by(LedgerCosignature.key)
    return parse_note((row.note + "".join(f"{line}\n" for line in session.scalars(query))).encode())


def newest(session: Session) -> Note:
    """Raises CheckpointUnknown."""
    found = find(session, newest_size(session))
    if found is None:
        raise CheckpointUnknown("nothing has been signed yet", hint="the release worker signs after the first record")
    return found


def keep(session: Session, note: Note, key: VerifierKey) -> None:
    """A checkpoint that was just signed. One that is there already stays: a size is signed in one way only."""
    size = parse_checkpoint(note.text).size
    now = time.time()
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    checkpoint = {"size": size, "note": note.encode().decode(), "signed_at": now}
    session.execute(insert(LedgerCheckpoint).values(checkpoint).on_conflict_do_nothing())
    session.execute(insert(LedgerKey).values(key=str(key), since=now).on_conflict_do_nothing())


def mark_published(session: Session, size: int) -> None:
    session.get_one(LedgerCheckpoint, size).published_at = time.time()


def keys(session: Session) -> list[VerifierKey]:
    """The keys that this ledger was signed with, the newest first, as the database has them: nobody vouches for it."""
    return [parse_key(text) for text in session.scalars(select(LedgerKey.key).order_by(LedgerKey.since.desc()))]


def kept(session: Session, believed: Sequence[VerifierKey]) -> Iterator[Kept]:
    """All checkpoints in the order of their sizes, each verified. Raises LedgerNotIntact."""
    last = -1
    query = select(LedgerCheckpoint.size, LedgerCheckpoint.note).order_by(LedgerCheckpoint.size).limit(_PAGE)
    while rows := session.execute(query.where(LedgerCheckpoint.size > last)).all():
        for row in rows:
            try:
                checkpoint = open_checkpoint(row.note.encode(), believed).checkpoint
            except (NoteInvalid, NoteNotSigned) as error:
                why = f"the checkpoint of size {row.size} that is kept is not one: {error.detail}"
                raise LedgerNotIntact(Reason.CHECKPOINT_FORGED, why) from error
            if checkpoint.size != row.size:
                why = f"the checkpoint that is kept for size {row.size} is of size {checkpoint.size}"
                raise LedgerNotIntact(Reason.CHECKPOINT_FORGED, why)
            yield Kept(checkpoint, f"the checkpoint of size {row.size}")
        last = rows[-1].size


def add_cosignatures(session: Session, content: bytes, witnesses: Sequence[VerifierKey]) -> tuple[int, list[str]]:
    """Keep what witnesses have signed of one of our checkpoints. Answers its size and their names.

    Raises NoteInvalid, CheckpointUnknown, NoteNotSigned, and CosignatureRefused when none of ours has signed.
    """
    note = parse_note(content)
    size = parse_checkpoint(note.text).size
    row = session.get(LedgerCheckpoint, size)
    if row is None or parse_note(row.note.encode()).text != note.text:
        raise CheckpointUnknown(f"no checkpoint of size {size} with this root was signed here")
    believed = [key for key in witnesses if key.kind is Kind.COSIGNATURE]
    found: list[str] = []
    for signature in note.signatures:
        key = next((one for one in believed if one.made(signature)), None)
        if key is None:
            continue
        cosigned = key.verify(note.text, signature)
        assert cosigned is not None, "a cosignature has its time"
        session.merge(LedgerCosignature(size=size, key=str(key), line=str(signature), cosigned_at=cosigned))
        found.append(key.name)
    if not found:
        raise CosignatureRefused(
            "no witness that is known here has signed the note",
            hint="an operator lists them in GOLDSMITH_LEDGER_WITNESSES",
        )
    return size, found
