"""The scan worker with points to be killed at."""

from __future__ import annotations

from builder.pipeline.scan import ScanStage
from builder.scanning.trivy import Scanner
from tests.end_to_end.faults import points
from workers import scan
from workers.app import app

__all__ = ["app", "scan"]

points.stages()
points.around(Scanner, "scan", "scanner")
points.around(ScanStage, "_keep", "keep")
