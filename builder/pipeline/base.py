"""The image that another starts from: its documents, the tree its layers make, and where its blobs are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder.errors import Broken
from builder.image import documents
from builder.image.digests import Readable
from builder.image.documents import ImageConfig, Manifest
from builder.image.entry import Entry
from builder.image.flatten import flatten
from builder.image.inventory import open_inventory
from builder.image.layerreader import open_layer
from builder.image.layout import Image
from builder.pipeline.services import Services
from builder.planning.lock import Lock
from builder.recipes.model import Base as BaseSpec
from builder.registry.reference import Repository, parse_reference
from builder.store import attachments, builds, releases
from builder.store.attachments import Kind
from builder.store.builds import BaseNotReleased
from builder.store.schema import Release


@dataclass(frozen=True)
class Base:
    """`repository` has the image's blobs; `epoch` is the image's own time in UTC seconds; `entries` are what its layers
    hold; `origin` is the reference that the recipe names, of an image that is not ours."""

    repository: Repository
    digest: str
    manifest: Manifest
    config: ImageConfig
    entries: tuple[Entry, ...]
    origin: str | None

    @property
    def reference(self) -> str:
        return str(self.repository.at(self.digest))

    @property
    def epoch(self) -> int:
        if self.config.created is None:
            return 0
        moment = datetime.fromisoformat(self.config.created)
        return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


def newest_base(
    services: Services, spec: BaseSpec, recipe_digest: str | None, build_key: str | None, spool: Path
) -> Base:
    """The base that a recipe names; of another recipe the newest release with `build_key`, which is that recipe with
    its own lock, or where it has none the newest with `recipe_digest`.

    Raises BaseNotReleased, or what the registry client raises.
    """
    if spec.image is not None:
        return _foreign(services, spec.image, spool)
    assert recipe_digest is not None, "noted when the build was taken in"
    with services.database.read() as session:
        registry = services.settings.registry
        release = (
            releases.of_key(session, build_key, registry)
            if build_key is not None
            else builds.newest_release(session, recipe_digest, registry)
        )
    if release is None:
        raise BaseNotReleased(
            f"the recipe {spec.recipe!r}, as it was when the build was asked for, has no released image in this "
            "registry",
            hint=f"`goldsmith build {spec.recipe}`, then build again",
        )
    return _released(services, release, spool)


def locked_base(services: Services, lock: Lock, repository: str | None, spool: Path) -> Base | None:
    """The base that a lock names by digest; None for a bootstrapped one.

    `repository` is where the service publishes the recipe of that name: an image that somebody else released under the
    same name is not it. Raises as `newest_base`.
    """
    digest = lock.base.image_digest
    if digest is None:
        return None
    if lock.requested.base.image is not None:
        # Asked for as the recipe names it: of an index, the image that the lock names must be the one it leads to.
        base = _foreign(services, lock.requested.base.image, spool)
        if base.digest != digest:
            raise BaseNotReleased(f"{lock.requested.base.image} leads to {base.digest}; the lock names {digest}")
        return base
    with services.database.read() as session:
        release = releases.of_image(session, digest, services.settings.registry, repository)
    if release is None:
        raise BaseNotReleased(
            f"the base {lock.base.recipe!r} that the lock names, {digest}, was not released in this registry",
            hint=f"`goldsmith build {lock.base.recipe}` with its lock gives it; `goldsmith recipe lock` takes a new",
        )
    return _released(services, release, spool)


def _released(services: Services, release: Release, spool: Path) -> Base:
    with services.database.read() as session:
        found = attachments.find(session, release.build_id, Kind.INVENTORY)
        if found is None:
            raise Broken(f"the release {release.build_id} of {release.recipe_name} has no inventory")
        inventory = attachments.content(session, found)
    repository, digest = services.released(release.repository), release.digest
    with tempfile.NamedTemporaryFile(dir=spool) as file:
        file.write(inventory)
        file.flush()
        with open_inventory(Path(file.name)) as (_, records):
            entries = tuple(record.entry for record in records)
    fetched = services.registry.manifests.get(repository.at(digest))
    manifest = documents.parse_manifest(fetched.data)
    config = documents.parse_config(services.registry.blobs.fetch(repository, manifest.config))
    return Base(repository, digest, manifest, config, entries, origin=None)


def _foreign(services: Services, text: str, spool: Path) -> Base:
    reference = parse_reference(text)
    with tempfile.TemporaryDirectory(dir=spool, prefix="base-") as work:
        architecture = services.engine.architecture()
        image = services.registry.images.pull(reference, Path(work) / "layout", architecture=architecture)
        entries = flattened(image)
    digest = image.descriptor.digest
    origin = str(reference.repository.at(digest))
    return Base(reference.repository, digest, image.manifest, image.config, entries, origin)


def flattened(image: Image) -> tuple[Entry, ...]:
    """What the layers of an image on disk make together."""
    return flatten(_layers(image))


def _layers(image: Image) -> Iterator[Readable]:
    for descriptor, diff_id in zip(image.manifest.layers, image.config.rootfs.diff_ids, strict=True):
        with ExitStack() as stack:
            yield stack.enter_context(open_layer(image.blob(descriptor.digest), descriptor, diff_id))
