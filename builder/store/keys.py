"""API keys: shown once, kept as a hash. A key is 256 random bits, so a plain SHA-256 is enough to hide it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection, Sequence

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from builder.errors import Rejected
from builder.store import webhooks
from builder.store.callers import ApiKey
from builder.store.scopes import Scope
from builder.store.webhooks import Event

PREFIX = "gs_"
_USE_SECONDS = 60.0


class KeyUnknown(Rejected):
    slug = "key-unknown"
    title = "There is no such API key"
    status = 404


class KeyAmbiguous(Rejected):
    slug = "key-ambiguous"
    title = "Several API keys have this name"
    status = 409


def create_key(
    session: Session,
    name: str,
    scopes: Collection[Scope] = (Scope.ADMIN,),
    *,
    expires_at: float | None = None,
    recipes: Collection[str] | None = None,
    team: str | None = None,
) -> str:
    """A new key for a named caller; this is the only time it can be read."""
    key = PREFIX + secrets.token_urlsafe(32)
    session.add(
        ApiKey(
            id=secrets.token_hex(8),
            name=name,
            key_hash=_hash(key),
            scopes=[scope.value for scope in Scope if scope in scopes],
            recipes=list(recipes) if recipes is not None else None,
            team=team,
            created_at=time.time(),
            expires_at=expires_at,
        )
    )
    return key


def find_key(session: Session, key: str) -> ApiKey | None:
    """What a key stands for, unless it is unknown or revoked. It may have expired."""
    return find_keys(session, [key])[0]


def find_keys(session: Session, given: Sequence[str]) -> list[ApiKey | None]:
    """The same for several, in their order."""
    hashes = [_hash(key) for key in given]
    query = select(ApiKey).where(ApiKey.key_hash.in_(set(hashes)), ApiKey.revoked_at.is_(None))
    found = {key.key_hash: key for key in session.scalars(query)}
    return [found.get(one) for one in hashes]


def expired(key: ApiKey, now: float) -> bool:
    return key.expires_at is not None and key.expires_at <= now


def allows(key: ApiKey, scopes: Collection[Scope]) -> bool:
    """Whether one of the scopes is the key's."""
    return not {Scope.ADMIN, *scopes}.isdisjoint(key.scopes)


def use_is_due(key: ApiKey, now: float) -> bool:
    """Whether the use now should be noted: once a minute is enough, and spares the database."""
    return key.last_used_at is None or key.last_used_at <= now - _USE_SECONDS


def note_use(session: Session, key: ApiKey, now: float) -> None:
    """Of those who use a key at once, one notes it."""
    due = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - _USE_SECONDS)
    session.execute(update(ApiKey).where(ApiKey.id == key.id, due).values(last_used_at=now))


def every(session: Session, *, revoked: bool = False) -> list[ApiKey]:
    """The oldest first; those that are revoked too, if asked for."""
    query = select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)
    return list(session.scalars(query if revoked else query.where(ApiKey.revoked_at.is_(None))))


def revoke(session: Session, named: str) -> ApiKey:
    """End a key, by its id or by a name that one key alone has. Raises KeyUnknown or KeyAmbiguous."""
    live = every(session)
    found = [one for one in live if one.id == named] or [one for one in live if one.name == named]
    if not found:
        raise KeyUnknown(f"no key that is not revoked has the id or name {named!r}", hint="see `goldsmith key list`")
    if len(found) > 1:
        raise KeyAmbiguous(
            f"{len(found)} keys are named {named!r}", hint=f"give an id: {', '.join(one.id for one in found)}"
        )
    found[0].revoked_at = time.time()
    webhooks.announce(session, Event.KEY_REVOKED, {"key": found[0].id, "name": found[0].name})
    return found[0]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
