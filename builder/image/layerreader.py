"""Reads a compressed layer that somebody else may have made: verified before, bounded while, and verified after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

from builder.errors import Rejected
from builder.image.digests import Readable, chunks_of, digest_of_file
from builder.image.documents import Descriptor
from builder.image.gzipstream import GzipError, gzip_chunks
from builder.image.tarstream import ChunkStream
from builder.image.zstdstream import zstd_chunks

_GZIP = ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
_ZSTD = ("application/vnd.oci.image.layer.v1.tar+zstd",)
_PLAIN = ("application/vnd.oci.image.layer.v1.tar",)
_LARGEST = 64 * 1024**3
_MAX_WINDOW = 128 * 1024 * 1024


class LayerInvalid(Rejected):
    slug = "layer-invalid"
    title = "A layer of the image is not valid"


@contextmanager
def open_layer(path: Path, descriptor: Descriptor, diff_id: str) -> Iterator[Readable]:
    """Give the layer's tar as a stream. The file is checked against the descriptor before a byte of it is interpreted.

    The stream's end is checked against `diff_id`: read it to its end. Raises LayerInvalid.
    """
    if path.stat().st_size != descriptor.size or digest_of_file(path) != descriptor.digest:
        raise LayerInvalid(f"the file of the layer {descriptor.digest} has other content than its digest says")
    with path.open("rb") as stream:
        yield ChunkStream(_checked(_decompressed(stream, descriptor.media_type), diff_id))


def _checked(chunks: Iterator[bytes], diff_id: str) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if size > _LARGEST:
            raise LayerInvalid(f"a layer expands to more than {_LARGEST} bytes")
        yield chunk
    if f"sha256:{digest.hexdigest()}" != diff_id:
        raise LayerInvalid(f"a layer holds sha256:{digest.hexdigest()} where the image's config says {diff_id}")


def _decompressed(stream: BinaryIO, media_type: str) -> Iterator[bytes]:
    if media_type in _GZIP:
        return _gunzip(stream)
    if media_type in _ZSTD:
        return _unzstd(stream)
    if media_type in _PLAIN:
        return chunks_of(stream)
    raise LayerInvalid(f"a layer has the media type {media_type[:100]!r}, which is not known")


def _gunzip(stream: BinaryIO) -> Iterator[bytes]:
    try:
        yield from gzip_chunks(stream)
    except GzipError as error:
        raise LayerInvalid(f"a layer is not valid gzip data: {error}") from error


def _unzstd(stream: BinaryIO) -> Iterator[bytes]:
    try:
        yield from zstd_chunks(stream, max_window=_MAX_WINDOW)
    except zstandard.ZstdError as error:
        raise LayerInvalid("a layer is not valid zstd data") from error
