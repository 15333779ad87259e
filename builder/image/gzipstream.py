"""Decompresses gzip as a stream: all members of it (some builders write many), and nothing after them."""

from __future__ import annotations

from collections.abc import Iterator

from isal import isal_zlib

from builder.image.digests import CHUNK, Readable


class GzipError(ValueError):
    """What should be gzip data is not, ends too early or has something after its end."""


def gzip_chunks(stream: Readable) -> Iterator[bytes]:
    """The content of all members, in chunks of at most 1 MiB. Raises GzipError."""
    data = stream.read(CHUNK)
    try:
        while data:
            member = isal_zlib.decompressobj(31)
            while not member.eof:
                out = member.decompress(data, CHUNK)
                if not (out or data or member.eof):
                    raise GzipError("it ends too early")
                if out:
                    yield out
                data = b"" if member.eof else member.unconsumed_tail or stream.read(CHUNK)
            data = member.unused_data or stream.read(CHUNK)
    except isal_zlib.error as error:  # type: ignore[misc]  # the stub takes the class for an instance
        raise GzipError(str(error)) from error
