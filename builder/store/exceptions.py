"""Documents of exceptions as they are kept: taken in, signed or refused, and each exception until it is revoked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from builder.errors import Problem, Rejected
from builder.store import attachments, webhooks
from builder.store.schema import Blob, ExceptionRow, VexDocument
from builder.store.webhooks import Event

PENDING, SIGNED, REFUSED = "pending", "signed", "refused"


class ExceptionUnknown(Rejected):
    slug = "exception-unknown"
    title = "There is no such exception"
    status = 404


@dataclass(frozen=True)
class Indexed:
    """What an exception is found by. `expires_at` is in UTC seconds."""

    id: str
    vulnerability: str
    expires_at: float


@dataclass(frozen=True)
class Kept:
    """A document with what was signed of it, and which of its exceptions somebody revoked."""

    id: str
    scope: str
    bundle: bytes | None
    revoked: frozenset[str]


def add(
    session: Session,
    document_id: str,
    scope: str,
    document: bytes,
    exceptions: Iterable[Indexed],
    requester: str,
) -> None:
    """Keep a document that nobody has signed yet."""
    digest = attachments.put_blob(session, document)
    session.add(
        VexDocument(
            id=document_id, state=PENDING, scope=scope, document_digest=digest, requester=requester,
            created_at=time.time(),
        )
    )  # fmt: skip
    session.flush()
    session.add_all(
        ExceptionRow(id=one.id, document_id=document_id, vulnerability=one.vulnerability, expires_at=one.expires_at)
        for one in exceptions
    )


def document(session: Session, document_id: str) -> VexDocument:
    """Raises ExceptionUnknown."""
    found = session.get(VexDocument, document_id)
    if found is None:
        raise ExceptionUnknown(f"there is no document {document_id[:40]!r}")
    return found


def mark_signed(session: Session, document_id: str, bundle: bytes) -> None:
    found = document(session, document_id)
    found.state, found.bundle_digest, found.signed_at = SIGNED, attachments.put_blob(session, bundle), time.time()
    found.problem = None


def mark_refused(session: Session, document_id: str, problem: Problem) -> None:
    found = document(session, document_id)
    found.state, found.problem = REFUSED, problem.model_dump(mode="json")


def content(session: Session, digest: str) -> bytes:
    return session.get_one(Blob, digest).content


def get(session: Session, exception_id: str) -> tuple[ExceptionRow, VexDocument]:
    """Raises ExceptionUnknown."""
    found = session.execute(
        select(ExceptionRow, VexDocument).join(VexDocument).where(ExceptionRow.id == exception_id[:26])
    ).first()
    if found is None or len(exception_id) != 26:
        raise ExceptionUnknown(f"there is no exception {exception_id[:40]!r}", hint="`goldsmith exceptions list`")
    return found[0], found[1]


def page(
    session: Session, *, before: str | None, limit: int, vulnerability: str | None
) -> Sequence[tuple[ExceptionRow, VexDocument]]:
    """The newest first."""
    query = select(ExceptionRow, VexDocument).join(VexDocument).order_by(ExceptionRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ExceptionRow.id < before)
    if vulnerability is not None:
        query = query.where(ExceptionRow.vulnerability == vulnerability)
    return [(row, document) for row, document in session.execute(query)]


def revoke(session: Session, exception_id: str, by: str) -> None:
    """From now on it does not count. A second time changes nothing. Raises ExceptionUnknown."""
    row, _ = get(session, exception_id)
    if row.revoked_at is None:
        row.revoked_at, row.revoked_by = time.time(), by
        told = {"exception": row.id, "vulnerability": row.vulnerability, "revokedBy": by}
        webhooks.announce(session, Event.EXCEPTION_REVOKED, told)


def holding(session: Session) -> list[str]:
    """The ids of those that are signed, have not expired and were not revoked."""
    return list(
        session.scalars(
            select(ExceptionRow.id)
            .join(VexDocument)
            .where(
                VexDocument.state == SIGNED,
                ExceptionRow.expires_at > time.time(),
                ExceptionRow.revoked_at.is_(None),
            )
        )
    )


def about(session: Session, vulnerabilities: Iterable[str], *, not_before: float) -> list[Kept]:
    """The signed documents with an exception for one of these vulnerabilities that expires after `not_before`."""
    wanted = sorted(set(vulnerabilities))
    found: dict[str, VexDocument] = {}
    for start in range(0, len(wanted), 500):
        fits = exists().where(
            ExceptionRow.document_id == VexDocument.id,
            ExceptionRow.vulnerability.in_(wanted[start : start + 500]),
            ExceptionRow.expires_at > not_before,
            ExceptionRow.revoked_at.is_(None),
        )
        for one in session.scalars(select(VexDocument).where(VexDocument.state == SIGNED, fits)):
            found[one.id] = one
    return [_kept(session, one) for _, one in sorted(found.items())]


def _kept(session: Session, found: VexDocument) -> Kept:
    revoked = session.scalars(
        select(ExceptionRow.id).where(ExceptionRow.document_id == found.id, ExceptionRow.revoked_at.is_not(None))
    )
    bundle = content(session, found.bundle_digest) if found.bundle_digest else None
    return Kept(found.id, found.scope, bundle, frozenset(revoked))
