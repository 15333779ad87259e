"""What is compared: the entries of a container's export, of any other archive of a root file system, or of an image."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import replace

from builder.image.canonical import remember
from builder.image.digests import Readable
from builder.image.entry import Entry, EntryType
from builder.image.flatten import flatten
from builder.image.layerreader import LayerInvalid, open_layer
from builder.image.layout import Image
from builder.image.settle import link_targets, settle
from builder.image.tarstream import Limits, read_tar


def entries_of_archive(stream: Readable, limits: Limits | None = None) -> tuple[Entry, ...]:
    """The entries of a tar archive of a whole root file system, in canonical order; contents are hashed and forgotten.

    Nothing is left out, and a name such as ".wh.x" is a name: in a container it hides nothing, and must not here.
    Raises ArchiveInvalid and ArchiveTooLarge.
    """
    stored: dict[bytes, Entry] = {}
    for found, content in read_tar(stream, limits):
        entry = found
        if entry.type is EntryType.FILE:
            digest = hashlib.sha256()
            for chunk in content:
                digest.update(chunk)
            entry = replace(entry, sha256=digest.hexdigest())
        remember(stored, entry)
    entries, _ = settle(link_targets(stored), stored)
    return tuple(entries)


def entries_of_image(image: Image, limits: Limits | None = None) -> tuple[Entry, ...]:
    """The entries of an image in a layout as a container of it would see them, every layer verified.

    Raises LayerInvalid, ArchiveInvalid and ArchiveTooLarge.
    """
    layers, diff_ids = image.manifest.layers, image.config.rootfs.diff_ids
    if len(layers) != len(diff_ids):
        raise LayerInvalid(f"the image has {len(layers)} layers, and its config speaks of {len(diff_ids)}")
    with ExitStack() as stack:
        return flatten(
            (
                stack.enter_context(open_layer(image.blob(layer.digest), layer, diff_id))
                for layer, diff_id in zip(layers, diff_ids, strict=True)
            ),
            limits,
        )
