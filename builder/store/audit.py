"""The audit log: only ever appended to, read from its end."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from builder.store.callers import AuditEntry

_WRITTEN = [column.key for column in AuditEntry.__table__.columns if column.key != "id"]


def append(session: Session, entries: Sequence[AuditEntry]) -> None:
    """In this order."""
    # Many a second, none of which is looked at again: not worth a unit of work.
    session.execute(insert(AuditEntry), [{name: getattr(entry, name) for name in _WRITTEN} for entry in entries])


def page(
    session: Session, *, caller: str | None = None, before: int | None = None, limit: int = 100
) -> list[AuditEntry]:
    """The newest first; of one caller, by the key's name, and older than the entry `before`."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if caller is not None:
        query = query.where(AuditEntry.caller == caller)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return list(session.scalars(query))
