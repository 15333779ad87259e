"""The build queue: the only worker that reaches the container engine."""

from __future__ import annotations

from builder.pipeline.build import BuildStage
from builder.store.states import BUILD
from workers import resolve, sweeping  # noqa: F401  (a build worker takes that queue too, and clears its host)
from workers.app import app
from workers.running import run


@app.task(name="goldsmith.build")
def build(build_id: str) -> None:
    run(BUILD, BuildStage, build_id)
