"""Decompresses zstd as a stream, noticing what the library's own reader does not: an end that comes too early."""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

from builder.image.digests import Readable

# The smallest block of zstd has 4 bytes and may stand for 128 KiB: this keeps one step's output below 8 MiB.
_STEP = 256


def zstd_chunks(stream: Readable, *, max_window: int) -> Iterator[bytes]:
    """The content of all frames of a stream. `max_window` bounds the memory a frame may ask for, in bytes.

    Raises zstandard.ZstdError for what is no zstd, is damaged, ends too early or has something after its end.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=max_window)
    data = stream.read(_STEP)
    while data:
        frame = decompressor.decompressobj()
        while not frame.eof:
            if not data:
                raise zstandard.ZstdError("the data ends in the middle of a frame")
            if out := frame.decompress(data):
                yield out
            data = b"" if frame.eof else stream.read(_STEP)
        data = frame.unused_data or stream.read(_STEP)
