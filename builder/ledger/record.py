"""Records, each one canonical JSON document (RFC 8785), and a release's: everything an auditor asks later."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import rfc8785
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from sqlalchemy.orm import Session

from builder.ledger.stored import append_leaf
from builder.store import errands
from builder.store.errands import ErrandKind
from builder.store.schema import Record

FORMAT = "goldsmith-record/v1"


class RecordedStep(BaseModel):
    """A step that has ended: done, failed in an attempt before, or lost with its worker. Times are UTC seconds."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: str
    attempt: int
    started: float
    finished: float
    summary: str


class LedgerRecord(BaseModel):
    """What every record says of itself: its format, the build it is of, and the image it is about."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    format: str
    build_id: str
    image_digest: str

    def canonical(self) -> bytes:
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True))


class ReleaseRecord(LedgerRecord):
    """`recipe` is the whole recipe; `build`, `scan` and `release` are the evidence of the three stages; `bundles` name
    each published attestation by predicate type and digest; `parameters` are what the recipe was filled in with, and
    `source` is the commit that it was taken from."""

    format: str = FORMAT
    requester: str
    requested: float
    recipe: dict[str, Any]
    recipe_digest: str
    attempt: int
    steps: Sequence[RecordedStep]
    build: dict[str, Any]
    scan: dict[str, Any]
    release: dict[str, Any]
    bundles: dict[str, str]
    parameters: dict[str, Any] | None = None
    source: dict[str, str] | None = None

    def canonical(self) -> bytes:
        """Without `parameters` and `source` of a recipe that has none: as records were before there were any."""
        unsaid = {name for name in ("parameters", "source") if getattr(self, name) is None}
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True, exclude=unsaid))


def append(session: Session, record: LedgerRecord) -> int:
    """Append a record and answer its number. A build is recorded once: a second time breaks a unique constraint.

    It enters the Merkle tree in the same transaction, and a checkpoint over it will be signed. Other appenders wait for
    this transaction to end, so append last.
    """
    body = record.canonical()
    row = Record(
        build_id=record.build_id,
        image_digest=record.image_digest,
        digest="sha256:" + hashlib.sha256(body).hexdigest(),
        body=body,
        recorded_at=time.time(),
    )
    session.add(row)
    session.flush()
    append_leaf(session, row, record.format)
    errands.add_once(session, ErrandKind.CHECKPOINT, errands.LEDGER)
    return row.number
