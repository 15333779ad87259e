"""The resolve queue: locks that are asked for without an image. A build worker takes them too, or one of their own."""

from __future__ import annotations

from builder.pipeline.resolving import ResolveStage
from builder.store.states import RESOLVE
from workers.app import app
from workers.running import run


@app.task(name="goldsmith.resolve")
def resolve(build_id: str) -> None:
    run(RESOLVE, ResolveStage, build_id)
