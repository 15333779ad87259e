"""The scan queue: the registry and the scanner, no engine and no signing identity."""

from __future__ import annotations

from builder.pipeline.scan import ScanStage, look_ahead
from builder.pipeline.staging import clear_spool
from builder.store.states import SCAN
from workers import (
    compare,  # noqa: F401  (a scan worker takes that queue too)
    errands,  # noqa: F401  (in a small installation)
)
from workers.app import app
from workers.running import run, services
from workers.sweeping import sweep_host

sweep_host(clear_spool)


@app.task(name="goldsmith.scan")
def scan(build_id: str) -> None:
    if not look_ahead(services(), build_id):
        run(SCAN, ScanStage, build_id)
