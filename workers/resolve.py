"""The resolve queue: locks without an image, and dry runs. A build worker takes them too, or one of their own."""

from __future__ import annotations

from builder.pipeline.plan import PlanStage
from builder.pipeline.resolving import ResolveStage
from builder.store.states import PLAN, RESOLVE
from workers.app import app
from workers.running import run


@app.task(name="goldsmith.resolve")
def resolve(build_id: str) -> None:
    # A build is for one of the two; of the other it cannot be claimed.
    run(RESOLVE, ResolveStage, build_id)
    run(PLAN, PlanStage, build_id)
