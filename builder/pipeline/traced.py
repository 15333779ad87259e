"""What a stage has done, as spans: the build, its stages, their steps. A build's trace is that of its request."""

from __future__ import annotations

import time

from sqlalchemy import select

from builder.pipeline.stage import Outcome
from builder.spans import Spans, span_id
from builder.store import builds
from builder.store.database import Database
from builder.store.schema import Build, Step
from builder.store.states import State


def tell_stage(spans: Spans, database: Database, build_id: str, stage: str, begun: float, outcome: Outcome) -> None:
    """Tell of an attempt at a stage that has just ended, and of the build if that was its last one."""
    ended = time.time()
    with database.read() as session:
        build = builds.get(session, build_id)
        mine = (Step.build_id == build_id, Step.attempt == outcome.attempt, Step.started_at >= begun)
        steps = session.scalars(select(Step).where(*mine)).all()
    if build.trace is None:
        return
    whole, own = span_id("build", build.id), span_id("stage", build.id, outcome.attempt, stage)
    facts: dict[str, str | int] = {
        "goldsmith.build": build.id,
        "goldsmith.recipe": build.recipe_name,
        "goldsmith.attempt": outcome.attempt,
    }
    spans.tell(
        stage,
        trace=build.trace,
        begun=begun,
        ended=ended,
        own=own,
        parent=whole,
        attributes=facts,
        failure=outcome.failure,
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
            failure=_failure(build),
        )


def _failure(build: Build) -> str | None:
    return str((build.problem or {}).get("title", build.state)) if build.state == State.FAILED else None
