"""Messages to queues: written in the transaction that makes them true, handed out in order, sent again until taken.

A broker gets few of them at a time, and the next by priority and age when one of these is taken: so what waits can be
overtaken, a team can be held to a limit, and a broker that forgets everything has little to forget.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, or_, select, true, update
from sqlalchemy.orm import Session

from builder.errors import Unavailable
from builder.store.schema import Build, OutboxRow
from builder.store.states import BEGUN, PATHS, STAGES, Priority, Purpose, Stage, State, stage_ready_in

# How many messages of a queue may be out and not taken: more than workers could take between two looks.
WINDOW = 32
# Longer than any delay: what is due later than that was written before the clock was set back.
_NO_DELAY_SECONDS = 600.0
_QUEUES = [stage.queue for stage in STAGES]
_WAITING = select(*(exists().where(OutboxRow.queue == one, OutboxRow.published_at.is_(None)) for one in _QUEUES))
# The team's name, or none and the name of the caller who is one.
Team = tuple[str | None, str]
_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


class QueueFull(Unavailable):
    """The service has as many builds waiting as its operator allows. None of them is lost."""

    slug = "queue-full"
    title = "Too many builds are waiting"


class Sort(StrEnum):
    """BEGIN is a build's first stage: a team's limit holds it back. GO_ON is any other. A HINT is sent once."""

    BEGIN = "begin"
    GO_ON = "go-on"
    HINT = "hint"


@dataclass(frozen=True)
class Message:
    """What a queue is told: the build's id, and nothing else."""

    id: int
    queue: str
    build_id: str
    priority: Priority
    sort: Sort


def enqueue(session: Session, build: Build, stage: Stage, delay: float = 0) -> None:
    """A message that the build is ready for a stage, due after `delay` seconds."""
    sort = Sort.BEGIN if stage is PATHS[Purpose(build.purpose)][0] else Sort.GO_ON
    _add(session, build, stage.queue, sort, delay)


def hint(session: Session, build: Build, queue: str) -> None:
    """A message that may be lost."""
    _add(session, build, queue, Sort.HINT, 0)


def take(session: Session, build_id: str, queue: str) -> None:
    """The message has done its work; whatever copies of it are under way find nothing to claim."""
    session.execute(delete(OutboxRow).where(OutboxRow.build_id == build_id, OutboxRow.queue == queue))


def forget(session: Session, build_id: str) -> None:
    """Nobody needs to be told of a build that has ended."""
    session.execute(delete(OutboxRow).where(OutboxRow.build_id == build_id))


def due(session: Session, *, per_team: int = 0, window: int = WINDOW) -> list[Message]:
    """What is to be sent now: of each queue by priority, then the oldest build first, as far as its window is free.

    `per_team` is how many builds of one team may be begun and not ended; 0 is no limit.
    """
    out = sent(session)
    begun = _begun(session) if per_team else Counter[Team]()
    found: list[Message] = []
    # One look for all queues: most have nothing, and this is asked ten times a second.
    waiting = session.execute(_WAITING).one()
    for queue in compress(_QUEUES, waiting):
        free = window - out[queue]
        if free > 0:
            found += _next(session, queue, free, begun, per_team)
    return found


def mark_sent(session: Session, messages: Sequence[Message]) -> None:
    """Before they are: what cannot be marked is not sent either, time and again."""
    hints = [one.id for one in messages if one.sort is Sort.HINT]
    others = [one.id for one in messages if one.sort is not Sort.HINT]
    if hints:
        session.execute(delete(OutboxRow).where(OutboxRow.id.in_(hints)))
    if others:
        session.execute(update(OutboxRow).where(OutboxRow.id.in_(others)).values(published_at=time.time()))


def mark_unsent(session: Session, messages: Sequence[Message]) -> None:
    """The broker did not take them. A hint is gone."""
    ids = [one.id for one in messages]
    session.execute(update(OutboxRow).where(OutboxRow.id.in_(ids)).values(published_at=None))


def sent(session: Session) -> Counter[str]:
    """How many messages of each queue are out and not taken."""
    out = select(OutboxRow.queue, func.count()).where(OutboxRow.published_at.is_not(None)).group_by(OutboxRow.queue)
    found: Counter[str] = Counter()
    for queue, number in session.execute(out):
        found[queue] = number
    return found


def untaken(session: Session, older_than_seconds: float) -> set[str]:
    """The queues with messages that nobody took for so long: a broker or a worker may have lost them."""
    return set(session.scalars(select(OutboxRow.queue).where(_untaken(older_than_seconds)).distinct()))


def send_again(session: Session, older_than_seconds: float, queues: Collection[str]) -> int:
    """Have messages of these queues sent again that nobody took for so long."""
    again = update(OutboxRow).where(OutboxRow.queue.in_(queues), _untaken(older_than_seconds)).values(published_at=None)
    return len(session.execute(again.returning(OutboxRow.id)).all())


def _untaken(seconds: float) -> ColumnElement[bool]:
    now = time.time()
    return or_(OutboxRow.published_at < now - seconds, OutboxRow.published_at > now + seconds)


def restore(session: Session) -> int:
    """Write the message of each ready build that has none. There is none, but for what an older version has left."""
    ready = or_(*(and_(Build.state == stage.ready, Build.purpose == purpose)
                  for purpose, path in PATHS.items() for stage in path))  # fmt: skip
    told = exists().where(OutboxRow.build_id == Build.id, OutboxRow.sort != Sort.HINT)
    forgotten = list(session.scalars(select(Build).where(ready, ~told).limit(WINDOW)))
    for build in forgotten:
        stage = stage_ready_in(State(build.state), Purpose(build.purpose))
        assert stage is not None
        enqueue(session, build, stage)
    return len(forgotten)


def refuse_full(session: Session, limit: int) -> None:
    """Raises QueueFull when so many builds wait to be begun; 0 is no limit."""
    if not limit:
        return
    # Of nothing but the state, which is in the index: a row is as large as its recipe.
    waiting = select(Build.state).where(Build.state.in_((State.QUEUED, State.WAITING))).limit(limit)
    count = session.scalar(select(func.count()).select_from(waiting.subquery())) or 0
    if count >= limit:
        raise QueueFull(f"as many builds wait to be begun as may: {count}", hint="try again when some have ended")


def _add(session: Session, build: Build, queue: str, sort: Sort, delay: float) -> None:
    session.add(
        OutboxRow(
            build_id=build.id,
            queue=queue,
            due_at=time.time() + delay,
            sort=sort,
            rank=_RANKS[Priority(build.priority)],
            requester=build.requester,
            team=build.team,
        )
    )


def _next(session: Session, queue: str, free: int, begun: Counter[Team], per_team: int) -> list[Message]:
    now = time.time()
    query = select(OutboxRow).where(
        OutboxRow.queue == queue,
        OutboxRow.published_at.is_(None),
        or_(OutboxRow.due_at <= now, OutboxRow.due_at > now + _NO_DELAY_SECONDS),
    )
    query = query.order_by(OutboxRow.rank, OutboxRow.build_id, OutboxRow.id)
    found: dict[int, Message] = {}
    while len(found) < free:
        # Whoever has reached the limit is left out, and the next in order come forward.
        full = [team for team, count in begun.items() if count >= per_team] if per_team else []
        others = or_(OutboxRow.sort != Sort.BEGIN, _not_of(full)) if full else true()
        new = [row for row in session.scalars(query.where(others).limit(free)) if row.id not in found]
        held_back = False
        for row in new[: free - len(found)]:
            if per_team and row.sort == Sort.BEGIN:
                team = _team(row.team, row.requester)
                if begun[team] >= per_team:
                    held_back = True
                    continue
                begun[team] += 1
            found[row.id] = Message(row.id, row.queue, row.build_id, list(Priority)[row.rank], Sort(row.sort))
        if not held_back:
            break
    return list(found.values())


def _team(team: str | None, requester: str) -> Team:
    """A caller who has none is one."""
    return (None, requester) if team is None else (team, "")


def _not_of(teams: Collection[Team]) -> ColumnElement[bool]:
    named = [team for team, _ in teams if team is not None]
    alone = [requester for team, requester in teams if team is None]
    # Of a null neither `in` nor `not in` is true.
    return case((OutboxRow.team.is_(None), OutboxRow.requester.not_in(alone)), else_=OutboxRow.team.not_in(named))


def _begun(session: Session) -> Counter[Team]:
    """How many builds of each team are begun and not ended, those included whose first message is out."""
    at_work = (
        select(Build.team, Build.requester, func.count())
        .where(Build.state.in_(BEGUN))
        .group_by(Build.team, Build.requester)
    )
    told = (
        select(OutboxRow.team, OutboxRow.requester, func.count())
        .where(OutboxRow.published_at.is_not(None), OutboxRow.sort == Sort.BEGIN)
        .group_by(OutboxRow.team, OutboxRow.requester)
    )
    found: Counter[Team] = Counter()
    for query in (at_work, told):
        for team, requester, count in session.execute(query):
            found[_team(team, requester)] += count
    return found
