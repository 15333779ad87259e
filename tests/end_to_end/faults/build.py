"""The build worker with points to be killed at."""

from __future__ import annotations

from builder.engine.docker import Engine
from builder.pipeline import build as stage
from builder.registry.blobs import Blobs
from builder.registry.images import Images
from builder.registry.manifests import Manifests
from builder.store import builds
from tests.end_to_end.faults import points
from workers import build, sweeping
from workers.app import app

__all__ = ["app", "build"]

sweeping.SWEEP_SECONDS = 2.0  # a test has not the time
points.stages()
points.around(stage, "locked_or_resolved", "locked")
points.around(stage, "prepare", "prepare")
points.around(stage, "assemble", "assemble")
points.around(stage, "attach_materials", "materials")
points.around(builds, "announce_staged", "announce")
points.around(Blobs, "push", "blob")
points.around(Images, "push", "push")
points.around(Manifests, "put", "manifest")
points.within(Engine, "build_container", "container.created")
points.within(Engine, "trial_container", "test.container")
