"""Compresses a layer, and learns its diff ID, digest and size on the way (image-spec, layer.md and config.md).

gzip through ISA-L (igzip) at level 2. The stream is cut into blocks of 1 MiB, each compressed on its own with the
32 KiB before it as dictionary, so any number of threads gives the same bytes. So does any x86-64 CPU with SSE4.2:
levels 0 to 2 were compared on emulated CPUs from Nehalem to Haswell and on AVX-512. Level 3 differs: never use it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from isal import isal_zlib
from pydantic import BaseModel, ConfigDict

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

_LEVEL = 2
_BLOCK = 1024 * 1024
_WINDOW = 32 * 1024
# RFC 1952: magic, deflate, no flags (so no name), modification time 0, no extra flags, operating system unknown.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class Compression(BaseModel):
    """How a layer was compressed: all that is needed to get the same bytes again."""

    model_config = ConfigDict(frozen=True)

    name: str = "gzip"
    library: str = "isal"
    version: str = version("isal")
    level: int = _LEVEL
    block: int = _BLOCK


@dataclass(frozen=True)
class Layer:
    """A compressed layer. `size` and `digest` are of the file, `diff_id` and `uncompressed_size` of the tar in it."""

    path: Path
    diff_id: str
    digest: str
    size: int
    uncompressed_size: int
    compression: Compression
    media_type: str = MEDIA_TYPE


def write_layer(tar: Iterable[bytes], destination: Path, *, threads: int | None = None) -> Layer:
    """Compress `tar`, given in pieces of any size, into the new file `destination`, synced to disk.

    A failure leaves no file. `threads` defaults to the CPUs there are and does not change the bytes written.
    """
    try:
        return _write(tar, destination, threads or len(os.sched_getaffinity(0)))
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _write(tar: Iterable[bytes], destination: Path, threads: int) -> Layer:
    diff_id, blob = hashlib.sha256(), hashlib.sha256()
    checksum = uncompressed = size = 0
    with ThreadPoolExecutor(threads) as pool, destination.open("xb") as out:

        def put(data: bytes) -> None:
            nonlocal size
            blob.update(data)
            out.write(data)
            size += len(data)

        put(_GZIP_HEADER)
        waiting: deque[Future[bytes]] = deque()
        dictionary = b""
        for block in _blocks(tar):
            waiting.append(pool.submit(_deflate, block, dictionary))
            diff_id.update(block)
            checksum = isal_zlib.crc32(block, checksum)
            uncompressed += len(block)
            dictionary = block[-_WINDOW:]
            # Enough ahead to keep the threads busy, few enough to keep memory constant.
            while len(waiting) > threads + 1:
                put(waiting.popleft().result())
        for future in waiting:
            put(future.result())
        put(isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15).flush())
        put(struct.pack("<II", checksum, uncompressed & 0xFFFFFFFF))
    return Layer(
        destination,
        f"sha256:{diff_id.hexdigest()}",
        f"sha256:{blob.hexdigest()}",
        size,
        uncompressed,
        Compression(),
    )


def _deflate(block: bytes, dictionary: bytes) -> bytes:
    """One block as raw deflate, ended on a byte boundary so that the next can follow."""
    if dictionary:
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15, zdict=dictionary)
    else:
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15)
    return compressor.compress(block) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of exactly 1 MiB (the last may be shorter), however they come in."""
    gathered: list[memoryview] = []
    room = _BLOCK
    for piece in pieces:
        rest = memoryview(piece)
        while len(rest) >= room:
            yield b"".join([*gathered, rest[:room]])
            rest = rest[room:]
            gathered, room = [], _BLOCK
        gathered.append(rest)
        room -= len(rest)
    if room < _BLOCK:
        yield b"".join(gathered)
