"""A base put back where the engine can pull it, from its kept documents and the layers of the image built on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.pipeline.base import Base, flattened
from builder.pipeline.materials import Materials
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.staging import take_back
from builder.registry.reference import Repository
from builder.store import builds


@contextmanager
def restored_base(
    services: Services, task: Task, materials: Materials, image: Repository, spool: Path
) -> Iterator[Base | None]:
    """`image` is the repository of the image that was built on the base. None for a base that was bootstrapped."""
    digest = materials.lock.base.image_digest
    if materials.base is None or digest is None:
        yield None
        return
    # A repository of this build alone, noted first: whoever cleans up after us knows what to remove.
    name = f"rebuilds/{task.build.id}"
    with services.database.write() as session:
        build = builds.held_build(session, task.claim)
        build.image_digest, build.staging_repository = digest, name
    registry, place, kept = services.registry, services.staging(name), materials.base
    for layer in kept.manifest.layers:
        registry.images.copy_blob(image, layer, place, spool)
    registry.blobs.push(place, kept.config_bytes, kept.manifest.config)
    registry.manifests.put(place.at(digest), kept.manifest_bytes)
    pulled = registry.images.pull(place.at(digest), spool / "base", architecture=materials.lock.base.architecture)
    origin = materials.lock.base.image if materials.lock.base.recipe is None else None
    base = Base(place, digest, kept.manifest, kept.config, flattened(pulled), origin)
    yield base
    # Only now: after a failure it may be another worker's, `clean_up` knows, and the engine's copy goes with the cache.
    services.engine.forget(base.reference)
    take_back(services, task.build.id)
