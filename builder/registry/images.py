"""Whole images: push one from files, copy one between repositories, pull one into an OCI layout."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from builder.image.documents import INDEX_TYPES, Descriptor, Manifest, parse_index, parse_manifest
from builder.image.layout import Image, blob_path, mark_layout, read_layout
from builder.registry.blobs import Blobs
from builder.registry.errors import ImageTooLarge, ManifestUnknown
from builder.registry.manifests import FetchedManifest, Manifests
from builder.registry.reference import Reference, Repository


class Images:
    def __init__(self, blobs: Blobs, manifests: Manifests) -> None:
        self._blobs = blobs
        self._manifests = manifests

    def push(
        self, repository: Repository, manifest: Manifest, blobs: Mapping[str, Path | bytes], *, tag: str | None = None
    ) -> Descriptor:
        """Push an image: its layers and config from `blobs` (by digest), then the manifest by digest, then the tag.

        What `blobs` leaves out must be in the repository already: a registry refuses a manifest without its blobs.
        """
        for blob in _contents(manifest):
            if blob.digest in blobs:
                self._blobs.push(repository, blobs[blob.digest], blob)
        descriptor = manifest.descriptor()
        self._manifests.put(repository.at(descriptor.digest), manifest.to_bytes())
        if tag is not None:
            self._manifests.put(repository.tagged(tag), manifest.to_bytes())
        return descriptor

    def verify(self, repository: Repository, digest: str, check: Callable[[], None]) -> Descriptor:
        """Read an image or artifact to its last byte and keep nothing: whoever vouches for it next knows that it is
        there, whole.

        Within one registry a copy sends no blobs, so nobody else would look. `check` is called for each chunk, and what
        it raises ends the reading. Raises ManifestUnknown, BlobUnknown and DigestMismatch.
        """
        found = self._manifests.get(repository.at(digest))
        for blob in _contents(parse_manifest(found.data)):
            self._blobs.verify(repository, blob, check)
        return found.descriptor()

    def copy(self, source: Repository, digest: str, target: Repository, *, spool_dir: Path) -> Descriptor:
        """Copy an image or artifact by digest, byte for byte; within one registry blobs are mounted, not sent.

        An index is copied with all it names. Referrers are not copied: see `Referrers`.
        """
        found = self._manifests.get(source.at(digest))
        if found.media_type in INDEX_TYPES:
            for child in parse_index(found.data).manifests:
                self.copy(source, child.digest, target, spool_dir=spool_dir)
        else:
            for blob in _contents(parse_manifest(found.data)):
                self.copy_blob(source, blob, target, spool_dir)
        self._manifests.put(target.at(digest), found.data)
        return found.descriptor()

    def pull(
        self, reference: Reference, directory: Path, *, architecture: str = "amd64", limit: int | None = None
    ) -> Image:
        """Pull an image into a new OCI layout, every blob verified. Of an index the image for linux/`architecture`.

        Raises ImageTooLarge before a blob of an image of more than `limit` bytes, as they are stored, is asked for.
        """
        found = self._manifests.get(reference)
        if found.media_type in INDEX_TYPES:
            found = self._for_platform(found, architecture)
        manifest = parse_manifest(found.data)
        size = sum(blob.size for blob in _contents(manifest))
        if limit is not None and size > limit:
            raise ImageTooLarge(f"{reference} has {size} bytes; {limit} are allowed")
        (directory / "blobs" / "sha256").mkdir(parents=True)
        for blob in _contents(manifest):
            self._blobs.pull(reference.repository, blob, blob_path(directory, blob.digest))
        blob_path(directory, found.digest).write_bytes(found.data)
        mark_layout(directory, found.descriptor())
        return read_layout(directory)

    def _for_platform(self, index: FetchedManifest, architecture: str) -> FetchedManifest:
        for child in parse_index(index.data).manifests:
            if child.platform and (child.platform.os, child.platform.architecture) == ("linux", architecture):
                return self._manifests.get(index.repository.at(child.digest))
        raise ManifestUnknown(f"{index.repository}@{index.digest} names no image for linux/{architecture}")

    def copy_blob(self, source: Repository, blob: Descriptor, target: Repository, spool_dir: Path) -> None:
        """Have a blob of one repository in another too: mounted within a registry, sent between two."""
        if self._blobs.holds(target, blob):
            return
        if source.registry == target.registry and self._blobs.mount(target, blob.digest, source):
            return
        with tempfile.TemporaryDirectory(dir=spool_dir) as spool:
            file = Path(spool) / "blob"
            self._blobs.pull(source, blob, file)
            self._blobs.push(target, file, blob)


def _contents(manifest: Manifest) -> list[Descriptor]:
    """What a manifest needs beside itself, each once: layers, then config."""
    return list({blob.digest: blob for blob in (*manifest.layers, manifest.config)}.values())
