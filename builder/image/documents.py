"""OCI image documents: descriptor, manifest, config and index (image-spec 1.1), written in one canonical way.

What is written is strict and frozen. What is read may come from elsewhere: Docker's media types are accepted, members
that are not known are kept out of the way, and what is missing or malformed is refused with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel, to_pascal

from builder.errors import Fault, Rejected
from builder.image.canonical_json import canonical_json
from builder.image.digests import Digest, digest_of

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFEST_TYPES = (MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (INDEX, DOCKER_INDEX)
MAX_DOCUMENT = 4 * 1024 * 1024
"""The size in bytes that registries have to accept for a manifest (distribution-spec, "Pushing manifests")."""


class DocumentInvalid(Rejected):
    slug = "image-document-invalid"
    title = "An image manifest, config or index is not valid"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, and no member that is not set."""
        return canonical_json(self.model_dump(by_alias=True, exclude_none=True, mode="json"))


class Platform(_Document):
    architecture: str
    os: str
    variant: str | None = None


class Descriptor(_Document):
    """Names content by media type, digest and size in bytes (descriptor.md)."""

    media_type: str
    digest: Digest
    size: int = Field(ge=0)
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


EMPTY_DESCRIPTOR = Descriptor(media_type=EMPTY, digest=digest_of(b"{}"), size=2)
"""The content `{}`, for an artifact without a config (manifest.md, "Guidance for an Empty Descriptor")."""


class Manifest(_Document):
    """An image or artifact manifest (manifest.md)."""

    schema_version: int = Field(default=2, ge=2, le=2)
    media_type: str = MANIFEST
    artifact_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None

    def descriptor(self) -> Descriptor:
        data = self.to_bytes()
        return Descriptor(media_type=self.media_type, digest=digest_of(data), size=len(data))


class Index(_Document):
    """An image index (image-index.md)."""

    schema_version: int = Field(default=2, ge=2, le=2)
    media_type: str = INDEX
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str] | None = None


class Healthcheck(_Document):
    """How an engine asks a container whether it is well (Docker's image-spec 1.2; OCI reserves the word). Times are in
    nanoseconds."""

    model_config = ConfigDict(frozen=True, alias_generator=to_pascal, populate_by_name=True, extra="ignore")

    test: tuple[str, ...] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    retries: int | None = None

    @property
    def probes(self) -> bool:
        """Whether anything is run: `NONE` takes a base's check away."""
        return bool(self.test) and self.test != ("NONE",)


class Runtime(_Document):
    """How a container of the image runs (config.md, the member "config")."""

    model_config = ConfigDict(frozen=True, alias_generator=to_pascal, populate_by_name=True, extra="ignore")

    user: str | None = None
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    healthcheck: Healthcheck | None = None


class RootFS(_Document):
    model_config = ConfigDict(frozen=True, alias_generator=None, extra="ignore")

    type: str = "layers"
    diff_ids: tuple[Digest, ...]


class History(_Document):
    model_config = ConfigDict(frozen=True, alias_generator=None, extra="ignore")

    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfig(_Document):
    """An image config (config.md). `created` is RFC 3339, in UTC; its digest is the image ID."""

    model_config = ConfigDict(frozen=True, alias_generator=None, extra="ignore")

    created: str | None = None
    author: str | None = None
    architecture: str
    os: str
    variant: str | None = None
    config: Runtime = Runtime()
    rootfs: RootFS
    history: tuple[History, ...] | None = None


_Any = TypeVar("_Any", bound=_Document)


def ports(numbers: Mapping[int, str] | None) -> dict[str, dict[str, str]] | None:
    """ExposedPorts as the config writes them, from port -> protocol."""
    return {f"{port}/{protocol}": {} for port, protocol in numbers.items()} if numbers else None


def parse_manifest(data: bytes) -> Manifest:
    """Raises DocumentInvalid, also for an index."""
    return _checked(Manifest, data, MANIFEST_TYPES)


def parse_index(data: bytes) -> Index:
    return _checked(Index, data, INDEX_TYPES)


def parse_config(data: bytes) -> ImageConfig:
    return _parse(ImageConfig, data)


def media_type_of(data: bytes) -> str:
    """The media type that a manifest or index says it has; an OCI document may leave it out (manifest.md).

    Raises DocumentInvalid, also for what is both: each reader would take it for another (CVE-2021-41190).
    """

    class _Typed(_Document):
        media_type: str | None = None
        manifests: list[Any] | None = None
        layers: list[Any] | None = None
        config: Any = None

    document = _parse(_Typed, data)
    if document.manifests is not None and (document.layers is not None or document.config is not None):
        raise DocumentInvalid("the document is an image and an index at once")
    return document.media_type or (INDEX if document.manifests is not None else MANIFEST)


def _checked(kind: type[_Any], data: bytes, allowed: tuple[str, ...]) -> _Any:
    found = media_type_of(data)
    if found not in allowed:
        raise DocumentInvalid(f"the document is of type {found!r}; {allowed[0]} was expected")
    return _parse(kind, data)


def _parse(kind: type[_Any], data: bytes) -> _Any:
    name = kind.__name__.strip("_").lower()
    if len(data) > MAX_DOCUMENT:
        raise DocumentInvalid(f"an image {name} has {len(data)} bytes; at most {MAX_DOCUMENT} are read")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        faults = [Fault(message=e["msg"], field=".".join(str(part) for part in e["loc"])) for e in error.errors()[:20]]
        detail = "; ".join(str(fault) for fault in faults[:3])
        raise DocumentInvalid(f"an image {name} cannot be read: {detail}", errors=faults) from error
