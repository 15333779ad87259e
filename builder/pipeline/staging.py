"""Staging: where an image waits by digest until it may be released, and how it leaves without a trace."""

from __future__ import annotations

from builder.pipeline.services import Services
from builder.store import builds


def unstage(services: Services, build_id: str) -> None:
    """Remove what a build staged, unless another build that has not ended staged the same image."""
    with services.database.read() as session:
        build = builds.get(session, build_id)
        repository, digest = build.staging_repository, build.image_digest
        shared = builds.others_stage(session, build)
    if repository is None or digest is None:
        return
    if not shared:
        services.registry.manifests.delete(services.staging(repository).at(digest))
    with services.database.write() as session:
        builds.get(session, build_id).staging_repository = None
