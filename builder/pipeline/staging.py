"""What a build keeps outside the database while it runs, in the registry and on disk, and how it leaves no trace."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from builder.errors import GoldsmithError
from builder.pipeline.services import Services
from builder.store import attachments, builds, releases
from builder.store.builds import BuildUnknown
from builder.store.states import FINAL, Purpose, State

log = logging.getLogger("goldsmith")


def take_back(services: Services, build_id: str) -> None:
    """Remove all that a build has in the registry but a recorded release: what it published, then what it staged.

    Whatever another build needs stays. Nothing is forgotten before it is gone, so a failure here is tried again later.
    """
    with services.database.read() as session:
        build = builds.get(session, build_id)
        name, digest, purpose = build.staging_repository, build.image_digest, Purpose(build.purpose)
    if name is None or digest is None:
        return
    with staging_of(services, name, digest):
        with services.database.read() as session:
            shared = builds.others_stage(session, builds.get(session, build_id))
            released = releases.is_released(session, name, digest)
            own = (
                set() if releases.of_build(session, build_id) else attachments.referrers_of_nobody_else(session, build)
            )
        if purpose is Purpose.COMPARE:
            if not shared:
                services.registry.blobs.delete(services.staging(name), digest)
        else:
            _take_back_image(services, name, digest, own, shared=shared, released=released)
        with services.database.write() as session:
            builds.get(session, build_id).staging_repository = None


def staging_of(services: Services, name: str, digest: str) -> AbstractContextManager[None]:
    """Whoever begins to need a staged image, and whoever removes one that nobody needs, take turns."""
    return services.database.turn(f"staging/{name}@{digest}")


def _take_back_image(
    services: Services, name: str, digest: str, own: Collection[str], *, shared: bool, released: bool
) -> None:
    """`own` are the digests of what only this build has attached to the image."""
    target = services.released(name)
    if not shared and not released:
        services.registry.referrers.remove(target, digest)
        services.registry.manifests.delete(target.at(digest))
    elif own:
        services.registry.referrers.detach(target, digest, own)
    if not shared:
        staged = services.staging(name)
        services.registry.referrers.remove(staged, digest)
        services.registry.manifests.delete(staged.at(digest))


@contextmanager
def spool_of(services: Services, build_id: str) -> Iterator[Path]:
    """A build's own directory for large temporary files, empty at the start and gone at the end."""
    clear_spool(services, build_id)
    with tempfile.TemporaryDirectory(dir=services.spool, prefix=f"{build_id}-") as work:
        yield Path(work)


@contextmanager
def caches_within_limits(services: Services) -> Iterator[None]:
    """Whatever comes of the work, caches are trimmed after it; a failure to do so waits for the next time."""
    try:
        yield
    finally:
        settings = services.settings
        try:
            services.debs.trim(settings.cache_bytes, keep_seconds=settings.build_seconds)
            services.bases.trim(settings.engine_cache_bytes, keep_seconds=settings.build_seconds)
        except (GoldsmithError, OSError) as error:
            log.warning("caches are not trimmed: %s", error)


def remove_leftovers(services: Services, build_id: str | None = None) -> None:
    """Remove this build's containers and networks, and those of builds that ended when no worker could do it.

    Builds that this database does not know belong to somebody else who shares the engine.
    """
    for owner in services.engine.builds_with_leftovers():
        if owner == build_id or _state(services, owner) in FINAL:
            services.engine.remove_leftovers(owner)


def clear_spool(services: Services, build_id: str | None = None) -> None:
    """Remove this build's temporary files, and those of builds that have ended: a worker that was killed could not."""
    for path in services.spool.iterdir():
        owner = path.name.partition("-")[0]
        if owner == build_id or _state(services, owner) in (None, *FINAL):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _state(services: Services, build_id: str) -> State | None:
    with services.database.read() as session:
        try:
            return State(builds.get(session, build_id).state)
        except BuildUnknown:
            return None
