"""What those who follow builds are told, looked up for all of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from builder.store import journal
from builder.store.schema import Build, LogLine, Step

# Far below what SQLite and PostgreSQL take as parameters of one statement.
_AT_ONCE = 500


@dataclass(frozen=True)
class Place:
    """Where a follower has come to: the number of the last line of a build's log that it knows."""

    build_id: str
    line: int


@dataclass(frozen=True)
class Look:
    """A build at one moment: its state, its steps in order, and up to a thousand lines after a place."""

    state: str
    steps: tuple[Step, ...]
    lines: tuple[LogLine, ...]


def look(session: Session, places: Collection[Place]) -> dict[Place, Look]:
    """A look for each place whose build exists, all of the session's one snapshot: lines never come after the end."""
    ids = sorted({place.build_id for place in places})
    states: dict[str, str] = {}
    last: dict[str, int] = {}
    steps: defaultdict[str, list[Step]] = defaultdict(list)
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        for build_id, state in session.execute(select(Build.id, Build.state).where(Build.id.in_(some))):
            states[build_id] = state
        newest = select(LogLine.build_id, func.max(LogLine.number)).where(LogLine.build_id.in_(some))
        for build_id, number in session.execute(newest.group_by(LogLine.build_id)):
            last[build_id] = number
        for step in session.scalars(select(Step).where(Step.build_id.in_(some)).order_by(Step.id)):
            steps[step.build_id].append(step)
    return {
        place: Look(
            states[place.build_id],
            tuple(steps[place.build_id]),
            tuple(journal.log_after(session, place.build_id, place.line))
            if last.get(place.build_id, 0) > place.line
            else (),
        )
        for place in places
        if place.build_id in states
    }
