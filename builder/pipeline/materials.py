"""What an image was made of, kept beside it in the registry: a rebuild needs that and nothing else.

An artifact whose subject is the image; docs/formats/materials.md describes it. Blobs go by digest, so that a package
that a hundred images share is stored once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from builder.errors import Rejected
from builder.image.digests import digest_of
from builder.image.documents import (
    EMPTY,
    EMPTY_DESCRIPTOR,
    Descriptor,
    ImageConfig,
    Manifest,
    parse_config,
    parse_manifest,
)
from builder.pipeline.base import Base
from builder.pipeline.kept import DEB
from builder.planning.debs import DebStore
from builder.planning.lock import Lock
from builder.planning.lockfile import parse_lock
from builder.recipes.files import content_of
from builder.recipes.model import Recipe
from builder.recipes.reading import canonical_json
from builder.registry.client import RegistryClient
from builder.registry.reference import Repository

MATERIALS = "application/vnd.goldsmith.materials.v1+json"
RECIPE = "application/vnd.goldsmith.recipe.v1+json"
LOCK = "application/vnd.goldsmith.lock.v1+json"
FILE = "application/octet-stream"
# Not the types of OCI: a registry would look for the manifest that such a descriptor names.
BASE_MANIFEST = "application/vnd.goldsmith.base.manifest.v1+json"
BASE_CONFIG = "application/vnd.goldsmith.base.config.v1+json"

_TITLE = "org.opencontainers.image.title"
_THREADS = 4


class MaterialsInvalid(Rejected):
    slug = "materials-invalid"
    title = "The kept materials are not what the record says"


@dataclass(frozen=True)
class KeptBase:
    """The documents of the image that another was built on; its layers are among the other's own."""

    manifest: Manifest
    config: ImageConfig
    manifest_bytes: bytes
    config_bytes: bytes


@dataclass(frozen=True)
class Materials:
    """Everything but the packages, which are fetched one by one. `base` is None for a bootstrapped one."""

    lock: Lock
    base: KeptBase | None


def keep_blobs(
    registry: RegistryClient, repository: Repository, recipe: Recipe, lock: Lock, base: Base | None, debs: DebStore
) -> tuple[Descriptor, ...]:
    """Have every material in a repository. Answers their descriptors, in the order in which the manifest has them."""
    small: list[tuple[str, str, bytes]] = [
        (RECIPE, "recipe.json", canonical_json(recipe)),
        (LOCK, "lock.json", lock.canonical()),
        *((FILE, file.path, content_of(file)) for file in recipe.spec.files),
    ]
    if base is not None:
        config = registry.blobs.fetch(base.repository, base.manifest.config)
        small += [
            (BASE_MANIFEST, "base/manifest.json", registry.manifests.get(base.repository.at(base.digest)).data),
            (BASE_CONFIG, "base/config.json", config),
        ]
    wanted: list[tuple[Descriptor, Path | bytes]] = [
        (_described(media_type, title, digest_of(content), len(content)), content)
        for media_type, title, content in small
    ]
    wanted += [
        (_described(DEB, one.filename, f"sha256:{one.sha256}", one.size), debs.verified(one))
        for one in lock.all_packages
    ]
    once = {descriptor.digest: (descriptor, content) for descriptor, content in wanted}
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda one: registry.blobs.push(repository, one[1], one[0]), once.values()))
    return tuple(descriptor for descriptor, _ in wanted)


def materials_manifest(image: Descriptor, blobs: Sequence[Descriptor]) -> Manifest:
    """`image` is the subject: what keeps it keeps its materials."""
    return Manifest(
        artifact_type=MATERIALS,
        config=EMPTY_DESCRIPTOR,
        layers=tuple(blobs),
        subject=Descriptor(media_type=image.media_type, digest=image.digest, size=image.size),
    )


def attach_materials(registry: RegistryClient, repository: Repository, manifest: Manifest) -> Descriptor:
    """List the materials for their image; their blobs are in the repository already."""
    registry.blobs.push_bytes(repository, b"{}", EMPTY)
    return registry.referrers.attach(repository, manifest)


def copy_materials(
    registry: RegistryClient, source: Repository, digest: str, target: Repository, spool: Path
) -> Descriptor:
    """Publish staged materials: within one registry no byte is sent."""
    manifest = parse_manifest(registry.manifests.get(source.at(digest)).data)
    unique = {blob.digest: blob for blob in manifest.layers}.values()
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda blob: registry.images.copy_blob(source, blob, target, spool), unique))
    return attach_materials(registry, target, manifest)


def read_materials(registry: RegistryClient, repository: Repository, digest: str, lock_digest: str) -> Materials:
    """The materials with a digest that somebody signed. Raises MaterialsInvalid, or what the registry client raises."""
    manifest = parse_manifest(registry.manifests.get(repository.at(digest)).data)
    if manifest.artifact_type != MATERIALS:
        raise MaterialsInvalid(f"{repository}@{digest} is of type {manifest.artifact_type}, not {MATERIALS}")

    def one(media_type: str) -> bytes | None:
        found = _only(manifest.layers, media_type, repository)
        return registry.blobs.fetch(repository, found) if found else None

    text = one(LOCK)
    if text is None:
        raise MaterialsInvalid(f"the materials {digest} in {repository} hold no lock")
    lock = parse_lock(text, source="the kept lock")
    if lock.digest != lock_digest:
        raise MaterialsInvalid(f"the kept lock has the digest {lock.digest}; the provenance names {lock_digest}")
    base_manifest, base_config = one(BASE_MANIFEST), one(BASE_CONFIG)
    if lock.base.image_digest is None:
        return Materials(lock, None)
    if base_manifest is None or base_config is None or digest_of(base_manifest) != lock.base.image_digest:
        raise MaterialsInvalid(f"the materials {digest} do not hold the base {lock.base.image} of the lock")
    parsed = parse_manifest(base_manifest)
    if digest_of(base_config) != parsed.config.digest:
        raise MaterialsInvalid(f"the materials {digest} hold another config than the base {lock.base.image} has")
    return Materials(lock, KeptBase(parsed, parse_config(base_config), base_manifest, base_config))


def _described(media_type: str, title: str, digest: str, size: int) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest, size=size, annotations={_TITLE: title})


def _only(blobs: Iterable[Descriptor], media_type: str, repository: Repository) -> Descriptor | None:
    found = [blob for blob in blobs if blob.media_type == media_type]
    if len(found) > 1:
        raise MaterialsInvalid(f"the materials in {repository} hold {len(found)} blobs of type {media_type}, not one")
    return found[0] if found else None
