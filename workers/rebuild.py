"""The rebuild queue: a worker with an engine and an identity of its own, which checks what the others released."""

from __future__ import annotations

from builder.pipeline.rebuild import RebuildStage
from builder.store.states import REBUILD
from workers import sweeping  # noqa: F401  (it clears its host)
from workers.app import app
from workers.running import run


@app.task(name="goldsmith.rebuild")
def rebuild(build_id: str) -> None:
    run(REBUILD, RebuildStage, build_id)
