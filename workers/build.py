"""The build queue: the only worker that reaches the container engine."""

from __future__ import annotations

from builder.pipeline.build import BuildStage
from builder.pipeline.staging import clear_spool, remove_leftovers
from builder.store.states import BUILD
from workers import resolve  # noqa: F401  (a build worker takes that queue too)
from workers.app import app
from workers.running import run
from workers.sweeping import sweep_host

sweep_host(clear_spool, remove_leftovers)


@app.task(name="goldsmith.build")
def build(build_id: str) -> None:
    run(BUILD, BuildStage, build_id)
