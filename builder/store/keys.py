"""API keys: shown once, kept as a hash. A key is 256 random bits, so a plain SHA-256 is enough to hide it."""

from __future__ import annotations

import hashlib
import secrets
import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from builder.store.schema import ApiKey

PREFIX = "gs_"


def create_key(session: Session, name: str) -> str:
    """A new key for a named caller; this is the only time it can be read."""
    key = PREFIX + secrets.token_urlsafe(32)
    session.add(ApiKey(id=secrets.token_hex(8), name=name, key_hash=_hash(key), created_at=time.time()))
    return key


def owner_of(session: Session, key: str) -> str | None:
    """The name of the caller a key belongs to, or None."""
    row = session.scalars(select(ApiKey).where(ApiKey.key_hash == _hash(key), ApiKey.revoked_at.is_(None))).first()
    return row.name if row else None


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
