"""What a stage has done, as spans: the build, its stages, their steps. A build's trace is that of its request."""

from __future__ import annotations

import time

from sqlalchemy import select

from builder.spans import Spans, span_id
from builder.store import builds
from builder.store.database import Database
from builder.store.schema import Build, Step
from builder.store.states import State


def tell_stage(spans: Spans, database: Database, build_id: str, stage: str, begun: float) -> None:
    """Tell of a stage that has just ended, and of the build if that was its last one."""
    ended = time.time()
    with database.read() as session:
        build = builds.get(session, build_id)
        steps = session.scalars(select(Step).where(Step.build_id == build_id, Step.started_at >= begun)).all()
    if build.trace is None:
        return
    whole, own = span_id("build", build.id), span_id("stage", build.id, build.attempt, stage)
    facts: dict[str, str | int] = {
        "goldsmith.build": build.id,
        "goldsmith.recipe": build.recipe_name,
        "goldsmith.attempt": build.attempt,
    }
    failure = _failure(build)
    spans.tell(
        stage, trace=build.trace, begun=begun, ended=ended, own=own, parent=whole, attributes=facts, failure=failure
    )
    for step in steps:
        spans.tell(
            step.name,
            trace=build.trace,
            begun=step.started_at,
            ended=step.finished_at or ended,
            own=span_id("step", step.id),
            parent=own,
            attributes={"goldsmith.build": build.id, "goldsmith.summary": step.summary},
            failure=None if step.state == "done" else step.state,
        )
    if build.finished_at is not None:
        spans.tell(
            f"build {build.recipe_name}",
            trace=build.trace,
            begun=build.created_at,
            ended=build.finished_at,
            own=whole,
            attributes={**facts, "goldsmith.state": build.state, "goldsmith.digest": build.image_digest or ""},
            failure=failure,
        )


def _failure(build: Build) -> str | None:
    return str((build.problem or {}).get("title", build.state)) if build.state == State.FAILED else None
