"""The release worker with points to be killed at."""

from __future__ import annotations

from typing import Any

from builder.ledger import checkpoints
from builder.ledger.signing import LedgerKey
from builder.pipeline import checkpointing, signing
from builder.pipeline import release as stage
from builder.pipeline.release import ReleaseStage
from builder.registry.images import Images
from builder.registry.manifests import Manifests
from builder.registry.reference import Reference
from builder.registry.referrers import Referrers
from tests.end_to_end.faults import points
from workers import release
from workers.app import app

__all__ = ["app", "release"]

points.stages()
points.around(signing, "_keep_log", "log")
points.around(signing, "signed_by_us", "signature")
points.around(stage, "sign_release", "signatures-kept")
points.around(stage, "copy_materials", "materials")
points.around(stage, "append", "ledger")
points.around(stage, "take_back", "take-back")
points.around(ReleaseStage, "_record", "record")
points.around(ReleaseStage, "_tag", "tag")
points.around(Images, "copy", "copy")
points.around(Referrers, "attach_all", "attach")
points.around(Referrers, "_list_under_tag", "list")
points.around(Referrers, "remove", "unlist")
points.around(Manifests, "delete", "unstage")
points.around(LedgerKey, "sign", "checkpoint-key")
points.around(checkpoints, "keep", "checkpoint-keep")
points.around(checkpointing, "_publish", "checkpoint-push")
points.around(checkpointing, "_note_down", "checkpoint-note")

_put = Manifests.put


def put(self: Manifests, reference: Reference, *args: Any, **options: Any) -> Any:
    ours = reference.tag is not None and not reference.tag.startswith(("sha256-", "size-", "checkpoint"))
    name = "tag-put" if ours else "manifest"
    points.reach(f"{name}.before")
    found = _put(self, reference, *args, **options)
    points.reach(f"{name}.after")
    return found


Manifests.put = put  # type: ignore[method-assign]
