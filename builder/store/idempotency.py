"""Requests that carry an idempotency key: which are under way, and what was answered, so that none is done twice."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Float, Integer, String, Text, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from builder.errors import Rejected, Unavailable
from builder.store.schema import Base


class IdempotentRequest(Base):
    """A request of a caller with a key. Once `status` is there it is answered, for good; until then whoever knows
    `token` is at it, and if nothing has come of it at `lease_until` another may be. `fingerprint` is a digest over all
    that makes it the same request."""

    __tablename__ = "idempotent_requests"

    caller: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(71))
    token: Mapped[str] = mapped_column(String(32))
    lease_until: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float] = mapped_column(Float, index=True)
    status: Mapped[int | None] = mapped_column(Integer)
    location: Mapped[str | None] = mapped_column(String(200))
    body: Mapped[str | None] = mapped_column(Text)


class KeyReused(Rejected):
    slug = "idempotency-key-reused"
    title = "The idempotency key was used for another request"


class RequestUnderWay(Unavailable):
    """The first request with this key has not been answered yet."""

    slug = "request-under-way"
    title = "The same request is under way"
    status = 409


@dataclass(frozen=True)
class Asked:
    """A request, as far as it matters whether it is the same."""

    caller: str
    key: str
    fingerprint: str


@dataclass(frozen=True)
class Turn:
    """The right to carry out a request."""

    asked: Asked
    token: str


@dataclass(frozen=True)
class Answered:
    """What the answer to a request was. `body` is JSON; `location` is a path."""

    status: int
    location: str | None
    body: str


def begin(session: Session, asked: Asked, *, lease_seconds: float, kept_seconds: float) -> Turn | Answered:
    """The answer, if there is one, or else the turn of whoever asks. Raises KeyReused or RequestUnderWay."""
    now, token = time.time(), secrets.token_hex(16)
    fresh = {
        "fingerprint": asked.fingerprint,
        "token": token,
        "lease_until": now + lease_seconds,
        "expires_at": now + kept_seconds,
        "status": None,
        "location": None,
        "body": None,
    }
    try:
        with session.begin_nested():
            session.add(IdempotentRequest(caller=asked.caller, key=asked.key, **fresh))
        return Turn(asked, token)
    except IntegrityError:
        pass  # of two at the same instant one is here
    found = session.scalars(select(IdempotentRequest).where(*_is(asked)).with_for_update()).first()
    if found is None:
        raise RequestUnderWay("the same request has just come to nothing", hint="send it again")
    if found.expires_at > now:
        if found.fingerprint != asked.fingerprint:
            raise KeyReused(
                "Idempotency-Key: this key came with another request (method, path, query or body) before",
                hint="take a new key for a new request, such as a random UUID",
            )
        if found.status is not None:
            return Answered(found.status, found.location, found.body or "")
        if found.lease_until > now:
            raise RequestUnderWay("the first request with this Idempotency-Key is under way", hint="ask again soon")
    session.execute(update(IdempotentRequest).where(*_is(asked)).values(**fresh))
    return Turn(asked, token)


def remember(session: Session, turn: Turn, answered: Answered) -> None:
    """Raises RequestUnderWay if another has taken over in the meantime: then nothing of this one may be kept."""
    ours = (*_is(turn.asked), IdempotentRequest.token == turn.token, IdempotentRequest.status.is_(None))
    kept = {"status": answered.status, "location": answered.location, "body": answered.body}
    changed = update(IdempotentRequest).where(*ours).values(**kept).returning(IdempotentRequest.key)
    if session.execute(changed).first() is None:
        raise RequestUnderWay("this request took so long that another with its key was let in", hint="ask again soon")


def forget(session: Session, turn: Turn) -> None:
    """Nothing came of the request: the key is free again."""
    session.execute(
        delete(IdempotentRequest).where(
            *_is(turn.asked), IdempotentRequest.token == turn.token, IdempotentRequest.status.is_(None)
        )
    )


def forget_expired(session: Session) -> None:
    session.execute(delete(IdempotentRequest).where(IdempotentRequest.expires_at < time.time()))


def _is(asked: Asked) -> tuple[ColumnElement[bool], ...]:
    return IdempotentRequest.caller == asked.caller, IdempotentRequest.key == asked.key
