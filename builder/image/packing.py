"""Takes off the compression that a stream begins with, gzip's or zstd's; what begins with neither is as it is."""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

from builder.errors import Rejected
from builder.image.digests import CHUNK, Readable
from builder.image.gzipstream import GzipError, gzip_chunks
from builder.image.zstdstream import zstd_chunks

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class CompressionInvalid(Rejected):
    slug = "compression-invalid"
    title = "Compressed data cannot be read"


def unpacked(stream: Readable, *, max_window: int) -> Iterator[bytes]:
    """The content of a stream in chunks. `max_window` bounds the memory that zstd may ask for, in bytes.

    Raises CompressionInvalid for data that are damaged, end too early or have something after their end.
    """
    whole = _Begun(stream)
    try:
        if whole.begins_with(_GZIP):
            yield from gzip_chunks(whole)
        elif whole.begins_with(_ZSTD):
            yield from zstd_chunks(whole, max_window=max_window)
        else:
            while chunk := whole.read(CHUNK):
                yield chunk
    except (GzipError, zstandard.ZstdError) as error:
        raise CompressionInvalid(f"the compressed data are damaged or cut off: {error}") from error


class _Begun:
    """A stream whose first bytes were looked at. A pipe gives few bytes at a time."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._start = b""
        while len(self._start) < len(_ZSTD) and (more := stream.read(len(_ZSTD) - len(self._start))):
            self._start += more

    def begins_with(self, magic: bytes) -> bool:
        return self._start.startswith(magic)

    def read(self, size: int, /) -> bytes:
        if self._start:
            taken, self._start = self._start[:size], self._start[size:]
            return taken
        return self._stream.read(size)
