"""The compare queue: what runs, held against what was released. A scan worker takes it too, or one of its own.

What is read here may be hostile. It needs no container engine and no signing identity, and should have neither.
"""

from __future__ import annotations

from builder.pipeline.compare import CompareStage
from builder.store.states import COMPARE
from workers.app import app
from workers.running import run


@app.task(name="goldsmith.compare")
def compare(build_id: str) -> None:
    run(COMPARE, CompareStage, build_id)
