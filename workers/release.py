"""The release queue: the only worker that has the signing identity. It runs nothing of a recipe."""

from __future__ import annotations

from builder.pipeline.release import ReleaseStage
from builder.store.states import RELEASE
from workers import errands
from workers.app import app
from workers.running import run


@app.task(name="goldsmith.release")
def release(build_id: str) -> None:
    run(RELEASE, ReleaseStage, build_id)


@app.task(name="goldsmith.sign")
def sign(errand_id: int) -> None:
    errands.sign(errand_id)
