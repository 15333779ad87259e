"""Images as subjects: their layers, each verified, laid over each other as a container of them would see them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from builder.forensics.subjects.archive import plain, take_contents
from builder.forensics.subjects.bounds import Bounds
from builder.forensics.subjects.subject import Described, SubjectKind, SubjectUnreadable
from builder.image.digests import Readable
from builder.image.entry import Entry, EntryType
from builder.image.flatten import flatten
from builder.image.layerreader import LayerInvalid, open_layer
from builder.image.layout import Image, read_layout
from builder.image.tarstream import read_tar
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.reference import Reference

_OF_A_LAYOUT = re.compile(rb"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")


class ImageSubject:
    """An image in a layout. Its layers are verified by digest and diff ID as they are read."""

    unproven: tuple[str, ...] = ()

    def __init__(self, image: Image, kind: SubjectKind, name: str, bounds: Bounds | None = None) -> None:
        self._image = image
        self._bounds = bounds or Bounds()
        digest = image.descriptor.digest
        self.described = Described(kind, name, id=digest, image_digests=(digest,))

    @property
    def configuration(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._image.config_bytes)
        return found

    def looked_at(self, path: bytes) -> bool:  # noqa: ARG002
        return True

    @contextmanager
    def entries(self, directory: Path) -> Iterator[Iterator[Entry]]:  # noqa: ARG002
        """Raises LayerInvalid, ArchiveInvalid and ArchiveTooLarge."""
        yield self._bounds.entries(iter(entries_of_image(self._image, self._bounds)))

    def contents(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        return contents_of_image(self._image, paths)


def entries_of_image(image: Image, bounds: Bounds | None = None) -> tuple[Entry, ...]:
    """The entries of an image in a layout as a container of it would see them, every layer verified.

    Raises LayerInvalid, ArchiveInvalid and ArchiveTooLarge.
    """
    bounds = bounds or Bounds()
    layers, diff_ids = image.manifest.layers, image.config.rootfs.diff_ids
    if len(layers) != len(diff_ids):
        raise LayerInvalid(f"the image has {len(layers)} layers, and its config speaks of {len(diff_ids)}")
    with ExitStack() as stack:
        opened = (stack.enter_context(_layer(image, number)) for number in range(len(layers)))
        return flatten(map(bounds.stream, opened), bounds.limits)


def contents_of_image(image: Image, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """The contents of files that the image has, each from the uppermost layer that speaks of it.

    Raises LayerInvalid and ArchiveInvalid.
    """
    wanted = {path: path for path in paths}
    for number in reversed(range(len(image.manifest.layers))):
        sought: set[bytes] = set()
        # What is a hard link in a layer is sought again, in the same layer and then in those below.
        while not wanted.keys() <= sought:
            sought |= wanted.keys()
            with _layer(image, number) as stream:
                yield from take_contents(stream, wanted)


@contextmanager
def _layer(image: Image, number: int) -> Iterator[Readable]:
    layer = image.manifest.layers[number]
    with open_layer(image.blob(layer.digest), layer, image.config.rootfs.diff_ids[number]) as stream:
        yield stream


@contextmanager
def image_in_registry(access: Access, reference: Reference) -> Iterator[ImageSubject]:
    """Fetched, each blob verified, into a temporary directory. Raises what the registry client raises."""
    with tempfile.TemporaryDirectory() as directory:
        with RegistryClient(access, lock_directory=Path(directory)) as registry:
            image = registry.images.pull(reference, Path(directory) / "layout")
        yield ImageSubject(image, SubjectKind.IMAGE, str(reference))


@contextmanager
def image_in_layout(path: Path) -> Iterator[ImageSubject]:
    """The one image of a layout: a directory, or a tar file of one. Raises SubjectUnreadable, LayoutInvalid."""
    if path.is_dir():
        yield ImageSubject(read_layout(path), SubjectKind.LAYOUT, str(path))
        return
    with tempfile.TemporaryDirectory() as directory:
        _unpack_layout(path, Path(directory))
        yield ImageSubject(read_layout(Path(directory)), SubjectKind.LAYOUT, str(path))


def _unpack_layout(archive: Path, directory: Path) -> None:
    """Only what a layout is made of, under names that are its own."""
    (directory / "blobs" / "sha256").mkdir(parents=True)
    try:
        with archive.open("rb") as stream:
            for entry, content in read_tar(plain(stream)):
                if entry.type is EntryType.FILE and _OF_A_LAYOUT.fullmatch(entry.path):
                    with (directory / entry.path.decode("ascii")).open("wb") as out:
                        out.writelines(content)
    except OSError as error:
        raise SubjectUnreadable(f"{archive} cannot be read: {error.strerror}") from error
