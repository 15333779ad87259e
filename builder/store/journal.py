"""The steps and the log of a build, as its followers read them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import rfc8785
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from builder.store.schema import Build, LogLine, Step

LOG_TYPE = "application/jsonl"
_PAGE = 1000


@dataclass(frozen=True)
class Line:
    """A line of log before it has a number. `at` is UTC seconds."""

    at: float
    step: str
    text: str


def begin_step(session: Session, build_id: str, attempt: int, name: str) -> int:
    values = {"build_id": build_id, "attempt": attempt, "name": name, "state": "running", "summary": ""}
    step = insert(Step).values(**values, started_at=time.time()).returning(Step.id)
    return int(session.execute(step).scalar_one())


def finish_step(session: Session, step_id: int, state: str, summary: str) -> None:
    """A step that was called lost in the meantime stays so."""
    session.execute(
        update(Step)
        .where(Step.id == step_id, Step.state == "running")
        .values(state=state, finished_at=time.time(), summary=summary)
    )


def abandon_steps(session: Session, build_id: str) -> None:
    """Steps that a lost worker left running are over."""
    session.execute(
        update(Step)
        .where(Step.build_id == build_id, Step.state == "running")
        .values(state="lost", finished_at=time.time())
    )


def steps_of(session: Session, build_id: str) -> list[Step]:
    return list(session.scalars(select(Step).where(Step.build_id == build_id).order_by(Step.id)))


def append_log(session: Session, build_id: str, lines: Sequence[Line], *, token: int) -> bool:
    """Number and keep lines, without gaps; False, and nothing kept, when `token` is not the build's newest any more."""
    # The lock on the build makes writers take turns.
    held = select(Build.id).where(Build.id == build_id, Build.token == token).with_for_update()
    if session.scalar(held) is None:
        return False
    if not lines:
        return True
    last = session.scalar(select(func.max(LogLine.number)).where(LogLine.build_id == build_id)) or 0
    session.execute(
        insert(LogLine),
        [
            {"build_id": build_id, "number": last + offset, "at": line.at, "step": line.step, "text": line.text}
            for offset, line in enumerate(lines, start=1)
        ],
    )
    return True


def log_after(session: Session, build_id: str, number: int, limit: int = 1000) -> list[LogLine]:
    return list(
        session.scalars(
            select(LogLine)
            .where(LogLine.build_id == build_id, LogLine.number > number)
            .order_by(LogLine.number)
            .limit(limit)
        )
    )


def whole_log(session: Session, build_id: str) -> bytes:
    """All lines so far, each a line of canonical JSON (RFC 8785), so that the digest of a log means something."""
    parts: list[bytes] = []
    number = 0
    while lines := log_after(session, build_id, number, _PAGE):
        parts += [
            rfc8785.dumps({"number": one.number, "at": one.at, "step": one.step, "text": one.text}) for one in lines
        ]
        number = lines[-1].number
    return b"".join(part + b"\n" for part in parts)
