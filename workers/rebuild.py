"""The rebuild queue: a worker with an engine and an identity of its own, which checks what the others released."""

from __future__ import annotations

from builder.pipeline.rebuild import RebuildStage
from builder.pipeline.staging import clear_spool, remove_leftovers
from builder.store.states import REBUILD
from workers.app import app
from workers.running import run
from workers.sweeping import sweep_host

sweep_host(clear_spool, remove_leftovers)


@app.task(name="goldsmith.rebuild")
def rebuild(build_id: str) -> None:
    run(REBUILD, RebuildStage, build_id)
