"""Errands: work that belongs to no build, kept in the database and handed out like builds, at least once.

A message carries an errand's number alone. Whoever gets it takes the errand; one that comes twice takes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from builder.errors import Problem
from builder.store.schema import Errand

# The subject of the one errand that scans everything again.
ALL_RELEASES = "releases"
# The subject of the one errand that signs the ledger as it is.
LEDGER = "ledger"

_OUT = (Errand.done_at.is_(None), Errand.published_at.is_not(None))
_FIRST_DELAY = 10.0
_LONGEST_DELAY = 3600.0


class ErrandKind(StrEnum):
    SIGN = "sign"  # a document of exceptions, by the release worker: it has the identity
    RESCAN = "rescan"  # every released image, by an errands worker
    NOTIFY = "notify"  # a notice to a webhook, by an errands worker
    CHECKPOINT = "checkpoint"  # the ledger's newest state, by the release worker: it has the key

    @property
    def queue(self) -> str:
        return "release" if self in (ErrandKind.SIGN, ErrandKind.CHECKPOINT) else "errands"


# In seconds. What takes longer hangs, and its worker keeps it no longer. A notice has ten seconds, a round of scans
# takes as long as there are images.
LONGEST_SECONDS = {
    ErrandKind.SIGN: 900,
    ErrandKind.RESCAN: 6 * 3600,
    ErrandKind.NOTIFY: 120,
    ErrandKind.CHECKPOINT: 900,
}


@dataclass(frozen=True)
class Taken:
    """The right to do an errand until its lease ends; `tries` is the number of this try."""

    id: int
    subject: str
    body: str | None
    tries: int


def add(session: Session, kind: ErrandKind, subject: str, body: str | None = None) -> None:
    now = time.time()
    session.add(Errand(kind=kind, subject=subject, body=body, created_at=now, due_at=now, tries=0))


def add_once(session: Session, kind: ErrandKind, subject: str) -> None:
    """Add an errand unless the same one waits to be done."""
    if waiting(session, kind, subject) is None:
        add(session, kind, subject)


def waiting(session: Session, kind: ErrandKind, subject: str) -> Errand | None:
    query = select(Errand).where(Errand.kind == kind, Errand.subject == subject, Errand.done_at.is_(None))
    return session.scalars(query.limit(1)).first()


def newest(session: Session, kind: ErrandKind) -> Errand | None:
    return session.scalars(select(Errand).where(Errand.kind == kind).order_by(Errand.id.desc()).limit(1)).first()


def due(session: Session, limit: int = 100) -> list[Errand]:
    """What is to be handed out, and was not yet."""
    query = select(Errand).where(Errand.done_at.is_(None), _is_due(time.time()), Errand.published_at.is_(None))
    return list(session.scalars(query.order_by(Errand.due_at).limit(limit)))


def sent(session: Session) -> Counter[str]:
    """How many messages of each queue are out and not taken."""
    out = select(Errand.kind, func.count()).where(*_OUT).group_by(Errand.kind)
    found: Counter[str] = Counter()
    for kind, number in session.execute(out):
        found[ErrandKind(kind).queue] += number
    return found


def overdue(session: Session, now: float) -> list[tuple[str, int, float]]:
    """How many errands of each kind nobody has taken that are due, and since when: queue, number, time."""
    waiting = select(Errand.kind, func.count(), func.min(Errand.due_at)).group_by(Errand.kind)
    found = session.execute(waiting.where(Errand.done_at.is_(None), Errand.due_at <= now))
    return [(ErrandKind(kind).queue, number, since) for kind, number, since in found]


def untaken(session: Session, older_than_seconds: float) -> set[str]:
    """The queues with messages that nobody took for so long: a broker or a worker may have lost them."""
    kinds = session.scalars(select(Errand.kind).where(*_OUT, _untaken(older_than_seconds)).distinct())
    return {ErrandKind(kind).queue for kind in kinds}


def send_again(session: Session, older_than_seconds: float, queues: Collection[str]) -> int:
    """Have errands of these queues handed out again that nobody took for so long."""
    kinds = [kind for kind in ErrandKind if kind.queue in queues]
    again = update(Errand).where(Errand.kind.in_(kinds), *_OUT, _untaken(older_than_seconds)).values(published_at=None)
    return len(session.execute(again.returning(Errand.id)).all())


def _untaken(seconds: float) -> ColumnElement[bool]:
    now = time.time()
    return or_(Errand.published_at < now - seconds, Errand.published_at > now + seconds)


def _is_due(now: float) -> ColumnElement[bool]:
    """Nothing is put off for longer: what is due later than that was written before the clock was set back."""
    return or_(Errand.due_at <= now, Errand.due_at > now + 2 * _LONGEST_DELAY)


def mark_published(session: Session, errand_id: int) -> None:
    """Before it is: what cannot be marked is not sent either, time and again."""
    session.execute(update(Errand).where(Errand.id == errand_id).values(published_at=time.time()))


def take(session: Session, errand_id: int, kind: ErrandKind, lease_seconds: float) -> Taken | None:
    """Take an errand that is due. None if it is done, in somebody's hands, or to be tried later."""
    now = time.time()
    row = session.execute(
        update(Errand)
        .where(Errand.id == errand_id, Errand.kind == kind, Errand.done_at.is_(None), _is_due(now))
        .values(due_at=now + lease_seconds, published_at=None, tries=Errand.tries + 1)
        .returning(Errand.subject, Errand.body, Errand.tries)
    ).first()
    return Taken(errand_id, row.subject, row.body, row.tries) if row else None


def renew(session: Session, taken: Taken, lease_seconds: float) -> bool:
    """A heartbeat of whoever has taken it. Whether it was still this taker's."""
    return _update(session, taken, due_at=time.time() + lease_seconds)


def finish(session: Session, taken: Taken, problem: Problem | None = None) -> bool:
    """The errand is done, or given up with a problem. Whether it was still this taker's."""
    return _update(session, taken, done_at=time.time(), problem=problem.model_dump(mode="json") if problem else None)


def postpone(session: Session, taken: Taken, problem: Problem) -> bool:
    """Try again later, after ten seconds at first, then twice as long each time, up to an hour."""
    delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(taken.tries - 1, 16))
    return _update(session, taken, due_at=time.time() + delay, problem=problem.model_dump(mode="json"))


def forget_done(session: Session, older_than_seconds: float) -> None:
    session.execute(delete(Errand).where(Errand.done_at < time.time() - older_than_seconds))


def _update(session: Session, taken: Taken, **values: object) -> bool:
    held = (Errand.id == taken.id, Errand.tries == taken.tries, Errand.done_at.is_(None))
    return bool(session.execute(update(Errand).where(*held).values(**values).returning(Errand.id)).first())
