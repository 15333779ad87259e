"""An OCI image layout: a directory with `oci-layout`, `index.json` and `blobs/` (image-spec, image-layout.md)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import Rejected
from builder.image.canonical_json import canonical_json
from builder.image.digests import digest_of, digest_of_file, hex_of
from builder.image.documents import (
    INDEX_TYPES,
    MAX_DOCUMENT,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    parse_config,
    parse_index,
    parse_manifest,
)

_MARK = {"imageLayoutVersion": "1.0.0"}
_REF_NAME = "org.opencontainers.image.ref.name"


class LayoutInvalid(Rejected):
    slug = "image-layout-invalid"
    title = "The OCI image layout is not valid"


@dataclass(frozen=True)
class Image:
    """An image in a layout: its parsed documents, and where a blob of any digest is."""

    directory: Path
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig
    manifest_bytes: bytes
    config_bytes: bytes

    def blob(self, digest: str) -> Path:
        return blob_path(self.directory, digest)


def blob_path(directory: Path, digest: str) -> Path:
    return directory / "blobs" / "sha256" / hex_of(digest)


def write_layout(
    directory: Path, manifest: Manifest, config: bytes, layers: Sequence[Path], *, ref_name: str | None = None
) -> Descriptor:
    """Write a layout of one image into a new directory. `layers` are the files of the manifest's layers, in order.

    Layer files are linked where the file system allows it and copied otherwise. Raises LayoutInvalid if a file is not
    what the manifest says. Returns the manifest's descriptor.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    if len(layers) != len(manifest.layers):
        raise LayoutInvalid(f"the manifest names {len(manifest.layers)} layers; {len(layers)} files were given")
    for layer, source in zip(manifest.layers, layers, strict=True):
        if digest_of_file(source) != layer.digest:
            raise LayoutInvalid(f"{source.name} is not the layer {layer.digest}")
        target = blob_path(directory, layer.digest)
        if target.exists():
            continue
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    if digest_of(config) != manifest.config.digest:
        raise LayoutInvalid(f"the config given is not {manifest.config.digest}")
    blob_path(directory, manifest.config.digest).write_bytes(config)
    descriptor = manifest.descriptor()
    blob_path(directory, descriptor.digest).write_bytes(manifest.to_bytes())
    mark_layout(directory, descriptor, ref_name=ref_name)
    return descriptor


def mark_layout(directory: Path, descriptor: Descriptor, *, ref_name: str | None = None) -> None:
    """Make a directory with blobs a layout of the one image that `descriptor` names."""
    annotations = {_REF_NAME: ref_name} if ref_name else None
    listed = descriptor.model_copy(update={"annotations": annotations})
    (directory / "index.json").write_bytes(Index(manifests=(listed,)).to_bytes())
    (directory / "oci-layout").write_bytes(canonical_json(_MARK))


def read_layout(directory: Path, *, architecture: str | None = None, ref_name: str | None = None) -> Image:
    """The one image of a layout that fits; nested indexes are followed. Raises LayoutInvalid and DocumentInvalid.

    Documents are verified against their digests. Layers are not read: verify each while reading it.
    """
    if not (directory / "oci-layout").is_file():
        raise LayoutInvalid("the directory has no file oci-layout", hint="name the directory that holds index.json")
    candidates = list(_manifests(directory, parse_index(_read(directory / "index.json")), depth=4))
    if ref_name is not None:
        candidates = [c for c in candidates if (c.annotations or {}).get(_REF_NAME) == ref_name]
    if architecture is not None:
        candidates = [c for c in candidates if c.platform is None or c.platform.architecture == architecture]
    if len(candidates) != 1:
        raise LayoutInvalid(
            f"{len(candidates)} images in the layout fit; exactly one is needed",
            hint="name an architecture or a reference name",
        )
    descriptor = candidates[0]
    manifest_bytes = _blob(directory, descriptor)
    manifest = parse_manifest(manifest_bytes)
    config_bytes = _blob(directory, manifest.config)
    return Image(directory, descriptor, manifest, parse_config(config_bytes), manifest_bytes, config_bytes)


def _manifests(directory: Path, index: Index, depth: int) -> list[Descriptor]:
    if not depth:
        raise LayoutInvalid("the layout's indexes are nested too deeply")
    found = []
    for descriptor in index.manifests:
        if descriptor.media_type in INDEX_TYPES:
            found += _manifests(directory, parse_index(_blob(directory, descriptor)), depth - 1)
        else:
            found.append(descriptor)
    return found


def _blob(directory: Path, descriptor: Descriptor) -> bytes:
    data = _read(blob_path(directory, descriptor.digest))
    if digest_of(data) != descriptor.digest or len(data) != descriptor.size:
        raise LayoutInvalid(f"the blob {descriptor.digest} has other content than its digest says")
    return data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise LayoutInvalid(f"{path.name} cannot be read from the layout: {error.strerror}") from error
