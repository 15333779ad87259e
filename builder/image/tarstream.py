"""Reads a tar archive as a stream: header by header, content in chunks, never extracted, never held in memory.

The standard library's reader takes a damaged header in mid-stream for the end of the archive; here that is an error,
and so are a missing end, names that climb out of the tree, and anything past the limits. GNU long names, PAX records,
names that are not UTF-8, extended attributes, hard links, devices and all four sparse formats are read.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field

from builder.image.digests import CHUNK, Readable
from builder.image.entry import Entry, EntryType, make_entry, shown
from builder.image.tarheader import (
    BLOCK,
    ZERO_BLOCK,
    ArchiveInvalid,
    ArchiveTooLarge,
    Header,
    Segments,
    check_segments,
    decimal,
    gnu_sparse_entries,
    number,
    parse_header,
    parse_pax,
)

_TYPES = {
    b"0": EntryType.FILE, b"7": EntryType.FILE, b"S": EntryType.FILE,
    b"1": EntryType.HARDLINK, b"2": EntryType.SYMLINK, b"3": EntryType.CHARACTER,
    b"4": EntryType.BLOCK, b"5": EntryType.DIRECTORY, b"6": EntryType.FIFO,
}  # fmt: skip
_XATTR = b"SCHILY.xattr."
_XATTR_LIBARCHIVE = b"LIBARCHIVE.xattr."


@dataclass(frozen=True)
class Limits:
    """How much an archive may ask for. `max_bytes` counts expanded content, holes of sparse files included."""

    max_entries: int = 2_000_000
    max_path: int = 4096
    max_bytes: int = 64 * 1024**3
    max_record: int = 1024 * 1024


class ChunkStream:
    """Turns an iterable of chunks (what an HTTP client or the Docker SDK gives) into a stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            if 0 < len(chunk) <= size:
                return chunk
            self._rest = memoryview(chunk)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


def read_tar(stream: Readable, limits: Limits | None = None) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """Give each entry with its content in chunks of at most 1 MiB, in the archive's own order.

    The entries are as stored: a file has no `sha256` yet, a hard link no attributes of its own. Content not consumed
    before the next entry is asked for is skipped. Raises ArchiveInvalid and ArchiveTooLarge.
    """
    return _Reader(stream, limits or Limits()).entries()


def read_hashed(stream: Readable, limits: Limits | None = None) -> Iterator[Entry]:
    """Give each entry as `read_tar` does, a file with the `sha256` of its content, which is then forgotten."""
    for entry, content in read_tar(stream, limits):
        if entry.type is EntryType.FILE:
            digest = hashlib.sha256()
            for chunk in content:
                digest.update(chunk)
            # Nobody has seen the entry yet, and to make another would take longer than to hash a small file.
            object.__setattr__(entry, "sha256", digest.hexdigest())
        yield entry


@dataclass
class _Extended:
    """What PAX records and GNU long names say of the entry that follows them."""

    name: bytes | None = None
    link: bytes | None = None
    records: list[tuple[bytes, bytes]] = field(default_factory=list)


class _Reader:
    def __init__(self, stream: Readable, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._count = 0
        self._bytes = 0
        self._extended = 0  # bytes of extended headers before the current entry
        self._global = 0  # bytes of extended headers for all entries
        self._ahead = b""  # read from the stream, and used up to `_at`
        self._at = 0
        self._unread = 0  # content and padding of the current entry still in the stream

    def entries(self) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        extended = _Extended()
        defaults: list[tuple[bytes, bytes]] = []
        while (block := self._exactly(BLOCK, "a header")) != ZERO_BLOCK:
            header = parse_header(block)
            if header.kind in b"LKxXg":
                self._extend(header, extended, defaults)
                continue
            extended.records[:0] = defaults
            entry, segments, stored = self._entry(header, block, extended)
            extended = _Extended()
            self._extended = 0
            self._admit(entry)
            self._unread = stored + -stored % BLOCK
            if entry.path:
                yield entry, self._content(entry.size, segments, stored)
            self._skip()
        self._expect_end()

    def _extend(self, header: Header, extended: _Extended, defaults: list[tuple[bytes, bytes]]) -> None:
        # Together: any number of them may stand before an entry, and global ones stay to the end.
        if header.kind == b"g":
            self._global += BLOCK + header.size
        else:
            self._extended += BLOCK + header.size
        if self._global + self._extended > self._limits.max_record:
            raise ArchiveTooLarge(f"an entry's extended tar headers are longer than {self._limits.max_record} bytes")
        data = self._exactly(header.size, "an extended header")
        self._exactly(-header.size % BLOCK, "an extended header")
        if header.kind == b"L":
            extended.name = data.split(b"\0", 1)[0]
        elif header.kind == b"K":
            extended.link = data.split(b"\0", 1)[0]
        elif header.kind == b"g":
            defaults += parse_pax(data)
            if len(defaults) > 100:  # each entry is read with all of them
                raise ArchiveTooLarge("the archive's global headers hold more than 100 records")
        else:
            extended.records += parse_pax(data)

    def _entry(self, header: Header, block: bytes, extended: _Extended) -> tuple[Entry, Segments | None, int]:
        """The entry, the map of a sparse file, and how many bytes of content the stream holds."""
        kind = _TYPES.get(header.kind)
        name = header.name if extended.name is None else extended.name
        link = header.linkname if extended.link is None else extended.link
        uid, gid, stored = header.uid, header.gid, header.size
        xattrs: dict[bytes, bytes] = {}
        sparse: list[tuple[bytes, bytes]] = []
        for keyword, value in extended.records:
            if keyword == b"path":
                name = value
            elif keyword == b"linkpath":
                link = value
            elif keyword == b"uid":
                uid = decimal(keyword, value)
            elif keyword == b"gid":
                gid = decimal(keyword, value)
            elif keyword == b"size":
                stored = decimal(keyword, value)
            elif keyword.startswith(_XATTR):
                xattrs[keyword.removeprefix(_XATTR)] = value
            elif keyword.startswith(_XATTR_LIBARCHIVE):
                xattrs.setdefault(keyword.removeprefix(_XATTR_LIBARCHIVE), _unbase64(value))
            elif keyword == b"RHT.security.selinux":
                xattrs[b"security.selinux"] = value
            elif keyword.startswith(b"SCHILY.acl."):
                raise ArchiveInvalid(
                    f"{shown(name)} carries an access control list, which this format cannot keep",
                    hint="remove the ACL or write the archive with --xattrs in place of --acls",
                )
            elif keyword.startswith(b"GNU.sparse."):
                sparse.append((keyword.removeprefix(b"GNU.sparse."), value))
        if header.kind == b"\0":
            # Before POSIX a directory was a file whose name ends in a slash.
            kind = EntryType.DIRECTORY if name.endswith(b"/") else EntryType.FILE
        if kind is None:
            raise ArchiveInvalid(f"{shown(name)} has the tar type {header.kind!r}, which is not known")
        size, segments = stored, None
        if header.kind == b"S":
            size, segments = self._gnu_sparse(block, stored)
        elif sparse:
            name, size, segments, stored = self._pax_sparse(name, sparse, stored)
        if kind is not EntryType.FILE:
            # Other types have no content whatever their size field says; some archivers repeat the size for hard links.
            if kind is not EntryType.HARDLINK and stored:
                raise ArchiveInvalid(f"{shown(name)} is a {kind} and yet has content")
            size = stored = 0
        for path in (name, link):
            if len(path) > self._limits.max_path:
                raise ArchiveTooLarge(f"{shown(path)} is longer than {self._limits.max_path} bytes")
        path = clean_path(name)
        if not path and kind is not EntryType.DIRECTORY:
            raise ArchiveInvalid(f"the archive has a {kind} in place of the root directory")
        target = None
        if kind is EntryType.HARDLINK:
            target = clean_path(link)
        elif kind is EntryType.SYMLINK:
            target = link
        if target is not None and (not target or b"\0" in target):
            raise ArchiveInvalid(f"{shown(path)} is a {kind} without a valid target")
        device = (header.major, header.minor) if kind in (EntryType.CHARACTER, EntryType.BLOCK) else None
        # "A zero-length value deletes" (POSIX.1-2017, pax Extended Header), and engines read it so.
        kept = _checked_xattrs(path, {name: value for name, value in xattrs.items() if value}) if xattrs else ()
        entry = make_entry(path, kind, header.mode, uid, gid, size, None, target, device, kept)
        return entry, segments, stored

    def _gnu_sparse(self, block: bytes, stored: int) -> tuple[int, Segments]:
        pairs = gnu_sparse_entries(block, 386, 4)
        size = number(block[483:495])
        more = block[482]
        while more:
            extension = self._exactly(BLOCK, "the map of a sparse file")
            found = gnu_sparse_entries(extension, 0, 21)
            if not found:
                raise ArchiveInvalid("the map of a sparse file goes on without an end")
            pairs += found
            self._bound_map(pairs)
            more = extension[504]
        return size, check_segments(pairs, size, stored)

    def _pax_sparse(
        self, name: bytes, records: list[tuple[bytes, bytes]], stored: int
    ) -> tuple[bytes, int, Segments, int]:
        last = dict(records)
        name = last.get(b"name", name)
        size = decimal(b"GNU.sparse.size", last.get(b"realsize", last.get(b"size", b"")))
        if last.get(b"major") == b"1":
            pairs, used = self._sparse_map_in_content(stored)
            stored -= used
        elif b"map" in last:
            numbers = [decimal(b"GNU.sparse.map", part) for part in last[b"map"].split(b",") if part]
            pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
        else:
            offsets = [decimal(key, value) for key, value in records if key == b"offset"]
            lengths = [decimal(key, value) for key, value in records if key == b"numbytes"]
            pairs = list(zip(offsets, lengths, strict=False))
        self._bound_map(pairs)
        return name, size, check_segments(pairs, size, stored), stored

    def _sparse_map_in_content(self, stored: int) -> tuple[list[tuple[int, int]], int]:
        """Sparse format 1.0: the map is lines of decimal numbers before the content, padded to a whole block."""
        numbers: list[int] = []
        rest, used = b"", 0
        while not numbers or len(numbers) < 1 + 2 * numbers[0]:
            if used + BLOCK > stored:
                raise ArchiveInvalid("the map of a sparse file is longer than the data stored for it")
            rest += self._exactly(BLOCK, "the map of a sparse file")
            used += BLOCK
            *lines, rest = rest.split(b"\n")
            numbers += [decimal(b"GNU.sparse.map", line) for line in lines]
            if len(rest) > BLOCK:
                raise ArchiveInvalid("the map of a sparse file has a line that is no number")
            self._bound_map(numbers)
        return list(zip(numbers[1::2], numbers[2::2], strict=False)), used

    def _bound_map(self, parts: Sized) -> None:
        if len(parts) > 200_000:
            raise ArchiveTooLarge("the map of a sparse file has more than 100,000 parts")

    def _admit(self, entry: Entry) -> None:
        self._count += 1
        self._bytes += entry.size
        if self._count > self._limits.max_entries:
            raise ArchiveTooLarge(f"the archive has more than {self._limits.max_entries} entries")
        if self._bytes > self._limits.max_bytes:
            raise ArchiveTooLarge(
                f"the archive expands to more than {self._limits.max_bytes} bytes (at {shown(entry.path)})"
            )

    def _content(self, size: int, segments: Segments | None, stored: int) -> Iterator[bytes]:
        if segments is None:
            yield from self._stored(stored)
            return
        position = 0
        for offset, length in segments:
            yield from _zeros(offset - position)
            yield from self._stored(length)
            position = offset + length
        yield from _zeros(size - position)

    def _stored(self, length: int) -> Iterator[bytes]:
        while length:
            chunk = self._some(min(length, CHUNK))
            length -= len(chunk)
            yield chunk

    def _some(self, size: int) -> bytes:
        data = self._ahead[self._at : self._at + size]
        self._at += len(data)
        if not data:  # straight from the stream: large contents need not go through what was read ahead
            data = self._stream.read(size)
        if not data:
            raise _truncated("a file's content")
        self._unread -= len(data)
        return data

    def _skip(self) -> None:
        while self._unread:
            self._some(min(self._unread, CHUNK))

    def _exactly(self, size: int, what: str) -> bytes:
        data = self._ahead[self._at : self._at + size]
        self._at += len(data)
        while len(data) < size:
            self._ahead = self._stream.read(CHUNK)
            if not self._ahead:
                raise _truncated(what)
            self._at = size - len(data)
            data += self._ahead[: self._at]
            self._at = min(self._at, len(self._ahead))
        return data

    def _expect_end(self) -> None:
        """An end is two zero blocks; archivers pad with more zeros, and nothing else may follow."""
        if self._exactly(BLOCK, "its end") != ZERO_BLOCK:
            raise ArchiveInvalid("the archive goes on after its end", hint="archives joined by cat are not accepted")
        left = 64 * 1024 * 1024
        padding = self._ahead[self._at :]
        while padding or (padding := self._stream.read(CHUNK)):
            left -= len(padding)
            if padding.count(0) != len(padding) or left < 0:
                raise ArchiveInvalid("the archive goes on after its end")
            padding = b""


def clean_path(name: bytes) -> bytes:
    """A member's name as a path below the root. Raises ArchiveInvalid for names that leave it."""
    if b"\0" in name:
        raise ArchiveInvalid(f"{shown(name)} holds a NUL byte")
    parts = name.split(b"/")
    if b"" in parts or b"." in parts:
        parts = [part for part in parts if part not in (b"", b".")]
        name = b"/".join(parts)
    if b".." in parts:
        raise ArchiveInvalid(f"{shown(name)} climbs out of the tree with '..'")
    # A whiteout (image-spec, layer.md) may remove the longest of names, and is longer than that.
    if len(name) > 255 and any(len(part.removeprefix(b".wh.")) > 255 for part in parts):
        raise ArchiveInvalid(f"{shown(name)} has a component longer than 255 bytes")
    return name


def _checked_xattrs(path: bytes, xattrs: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    for name in xattrs:
        if not name.isascii() or not name or any(byte in name for byte in b"\0=%"):
            raise ArchiveInvalid(
                f"{shown(path)} has an extended attribute with the name {name[:60]!r}",
                hint="GNU tar writes '=' and '%' as %3D and %25, and others do not: leave the attribute out",
            )
    return tuple(sorted(xattrs.items()))


def _unbase64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except ValueError as error:
        raise ArchiveInvalid("an extended attribute is not valid base64") from error


def _zeros(count: int) -> Iterator[bytes]:
    while count:
        size = min(count, CHUNK)
        yield bytes(size)
        count -= size


def _truncated(what: str) -> ArchiveInvalid:
    return ArchiveInvalid(f"the archive ends in the middle of {what}", hint="it was cut off; send it again")
