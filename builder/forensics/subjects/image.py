"""Images as subjects: their layers, each verified, laid over each other as a container of them would see them."""

from __future__ import annotations

from contextlib import ExitStack

from builder.image.entry import Entry
from builder.image.flatten import flatten
from builder.image.layerreader import LayerInvalid, open_layer
from builder.image.layout import Image
from builder.image.tarstream import Limits


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
