"""The blocks of a tar archive, decoded: ustar and GNU headers, PAX records, numbers and sparse maps.

POSIX.1-2017 pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's manual, "Basic Tar Format" and
"Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

from builder.errors import Rejected

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

Segments = tuple[tuple[int, int], ...]
"""The parts of a sparse file that the archive holds: (offset, length) in the expanded file, ascending."""


class ArchiveInvalid(Rejected):
    slug = "archive-invalid"
    title = "The archive is not a valid tar archive"


class ArchiveTooLarge(Rejected):
    slug = "archive-too-large"
    title = "The archive is larger than is allowed"
    status = 413


class Header(NamedTuple):
    """One header block. `kind` is the type flag; names are as stored, NUL padding removed."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    kind: bytes
    linkname: bytes
    major: int
    minor: int


@lru_cache(4096)  # modes and owners are few
def number(field: bytes) -> int:
    """An octal field, or GNU's base-256 form for what octal cannot hold. Never negative."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    if field[0] & 0x80:
        raise ArchiveInvalid("a tar header holds a negative or overlong number")
    text = field.split(b"\0", 1)[0].strip(b" ")
    # int() alone would take "+7", "-7" and "0_7".
    if text and not text.isdigit():
        raise ArchiveInvalid(f"a tar header holds {field!r} where an octal number belongs")
    try:
        return int(text or b"0", 8)
    except ValueError as error:
        raise ArchiveInvalid(f"a tar header holds {field!r} where an octal number belongs") from error


def parse_header(block: bytes) -> Header:
    """Decode one header block. Raises ArchiveInvalid."""
    stored = number(block[148:156])
    # The checksum counts its own field as spaces. Some old archivers summed signed bytes.
    unsigned = _sum(block[:148]) + 8 * 0x20 + _sum(block[156:334]) + _sum(block[334:])
    if stored != unsigned and stored != unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise ArchiveInvalid("a tar header does not match its checksum", hint="it is damaged or no tar archive")
    name = _text(block[0:100])
    if block[257:265] == b"ustar\x0000" and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    kind = block[156:157]
    device = kind in (b"3", b"4")
    return Header(
        name=name,
        mode=number(block[100:108]) & 0o7777,
        uid=number(block[108:116]),
        gid=number(block[116:124]),
        size=number(block[124:136]),
        kind=kind,
        linkname=_text(block[157:257]),
        major=number(block[329:337]) if device else 0,
        minor=number(block[337:345]) if device else 0,
    )


def _sum(data: bytes) -> int:
    """The sum of at most 256 bytes: the low half of an Adler-32, which for so few has not wrapped around (RFC 1950)."""
    return adler32(data, 0) & 0xFFFF


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def parse_pax(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of an extended header, in order (sparse format 0.0 repeats keys). Raises ArchiveInvalid."""
    records = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 21)
        length = data[position:space]
        if space < 0 or not length.isdigit():
            raise ArchiveInvalid("a PAX extended header has a record without a length")
        end = position + int(length)
        record = data[space + 1 : end]
        keyword, equals, value = record[:-1].partition(b"=")
        if end <= space or end > len(data) or record[-1:] != b"\n" or not equals or not keyword:
            raise ArchiveInvalid("a PAX extended header has a record that does not fit its length")
        records.append((keyword, value))
        position = end
    return records


def decimal(keyword: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ArchiveInvalid(f"the PAX record {keyword.decode('ascii', 'replace')} is not a number: {value[:40]!r}")
    return int(value)


def check_segments(segments: Sequence[tuple[int, int]], size: int, stored: int) -> Segments:
    """Segments ascend, stay inside the expanded file, and together are what the archive holds of it."""
    end = 0
    for offset, length in segments:
        if offset < end or offset + length > size:
            raise ArchiveInvalid("the map of a sparse file has parts that overlap or lie outside the file")
        end = offset + length
    if sum(length for _, length in segments) != stored:
        raise ArchiveInvalid("the map of a sparse file does not match the data stored for it")
    return tuple(segments)


def gnu_sparse_entries(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    """The (offset, length) pairs in an old GNU sparse header (start 386, 4 pairs) or its extension (0, 21 pairs)."""
    pairs = []
    for at in range(start, start + 24 * count, 24):
        if not block[at]:
            break
        pairs.append((number(block[at : at + 12]), number(block[at + 12 : at + 24])))
    return pairs
