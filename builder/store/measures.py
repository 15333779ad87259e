"""How things stand, in numbers: what waits and how long, what ended lately and how, how long steps took."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from builder.store import errands
from builder.store.schema import Build, OutboxRow, Step
from builder.store.states import State

# What "lately" is: long enough to be smooth, short enough to show what goes wrong now.
WINDOW_SECONDS = 3600.0
_ENDED = [state.value for state in State if state.final]


@dataclass(frozen=True)
class Waiting:
    """Messages of a queue that nobody has taken, and the age of the oldest in seconds."""

    count: int
    oldest: float


@dataclass(frozen=True)
class Took:
    """Steps of a name that ended in a state: how many, their seconds, and the median and 95 of 100 of them."""

    count: int
    seconds: float
    median: float
    most: float


@dataclass(frozen=True)
class Measures:
    """`open` is by state; `ended` by state and the problem's type, an empty one for none; `steps` by name and state.
    `unchanged` are builds that an earlier release answered."""

    open: dict[str, int]
    queues: dict[str, Waiting]
    ended: dict[tuple[str, str], int]
    steps: dict[tuple[str, str], Took]

    @property
    def unchanged(self) -> int:
        found = self.steps.get(("unchanged", "done"))
        return found.count if found else 0


def measure(session: Session, now: float | None = None) -> Measures:
    """Looks at what is open, and at what ended within WINDOW_SECONDS."""
    now = time.time() if now is None else now
    return Measures(_open(session), _queues(session, now), *_lately(session, now - WINDOW_SECONDS))


def _open(session: Session) -> dict[str, int]:
    counted = select(Build.state, func.count()).where(Build.state.not_in(_ENDED)).group_by(Build.state)
    return {row[0]: row[1] for row in session.execute(counted)}


def _queues(session: Session, now: float) -> dict[str, Waiting]:
    waiting = select(OutboxRow.queue, func.count(), func.min(OutboxRow.due_at)).group_by(OutboxRow.queue)
    found: dict[str, Waiting] = {}
    for queue, number, since in [*session.execute(waiting), *errands.overdue(session, now)]:
        before = found.get(queue, Waiting(0, 0.0))
        found[queue] = Waiting(before.count + number, max(before.oldest, now - since))
    return found


def _lately(session: Session, since: float) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], Took]]:
    """By state, which has an index that goes by time."""
    recent = (Build.state.in_(_ENDED), Build.updated_at >= since)
    ended = Counter(
        (state, str((problem or {}).get("type", "")))
        for state, problem in session.execute(select(Build.state, Build.problem).where(*recent))
    )
    spent: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    steps = select(Step.name, Step.state, Step.finished_at - Step.started_at).join(Build, Build.id == Step.build_id)
    for name, state, seconds in session.execute(steps.where(*recent, Step.finished_at.is_not(None))):
        spent[name, state].append(max(0.0, seconds or 0.0))
    return dict(ended), {key: _took(sorted(seconds)) for key, seconds in spent.items()}


def _took(seconds: list[float]) -> Took:
    last = len(seconds) - 1
    return Took(len(seconds), sum(seconds), seconds[round(last * 0.5)], seconds[round(last * 0.95)])
