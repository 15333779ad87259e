"""What a build keeps outside the database while it runs, in the registry and on disk, and how it leaves no trace."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.pipeline.services import Services
from builder.store import builds
from builder.store.builds import BuildUnknown
from builder.store.states import State


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


@contextmanager
def spool_of(services: Services, build_id: str) -> Iterator[Path]:
    """A build's own directory for large temporary files, empty at the start and gone at the end.

    Also removes those of builds that have ended: a worker that was killed could not.
    """
    for path in services.spool.iterdir():
        owner = path.name.partition("-")[0]
        if owner == build_id or _has_ended(services, owner):
            shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=services.spool, prefix=f"{build_id}-") as work:
        yield Path(work)


def _has_ended(services: Services, build_id: str) -> bool:
    with services.database.read() as session:
        try:
            return State(builds.get(session, build_id).state).final
        except BuildUnknown:
            return True
