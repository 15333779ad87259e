"""Writes tar archives with one encoding for each entry: ustar, with a PAX header only where ustar cannot say it.

Nothing of the machine that writes shows: one modification time for all, numeric owners alone, a fixed name for PAX
headers, their records sorted, and exactly two zero blocks at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from builder.errors import Broken
from builder.image.entry import Entry, EntryType, shown
from builder.image.tarheader import BLOCK, ZERO_BLOCK

_KINDS = {
    EntryType.FILE: b"0", EntryType.HARDLINK: b"1", EntryType.SYMLINK: b"2", EntryType.CHARACTER: b"3",
    EntryType.BLOCK: b"4", EntryType.DIRECTORY: b"5", EntryType.FIFO: b"6",
}  # fmt: skip
_PAX_NAME = b"././@PaxHeader"
_LARGEST_ID = 0o7777777
_LARGEST_SIZE = 0o77777777777
_LARGEST_DEVICE = 0o7777777

Contents = Callable[[Entry], Iterator[bytes]]
"""Gives the content of a file entry in chunks."""


class ContentChanged(Broken):
    slug = "content-changed"
    title = "A file's content is not what was announced"


def tar_stream(entries: Iterable[Entry], contents: Contents, *, epoch: int) -> Iterator[bytes]:
    """The archive in pieces of at most 1 MiB. `epoch` is the modification time of every entry, in seconds."""
    for entry in entries:
        yield encode_header(entry, epoch)
        if entry.type is EntryType.FILE and entry.size:
            written = 0
            for chunk in contents(entry):
                written += len(chunk)
                yield chunk
            if written != entry.size:
                raise ContentChanged(f"{shown(entry.path)} has {written} bytes where {entry.size} were announced")
            yield bytes(-written % BLOCK)
    yield ZERO_BLOCK * 2


def encode_header(entry: Entry, epoch: int) -> bytes:
    """The header block of an entry, after its PAX header if it needs one."""
    path = entry.path + b"/" if entry.type is EntryType.DIRECTORY else entry.path
    target = entry.target or b""
    size = entry.size if entry.type is EntryType.FILE else 0
    # A hard link repeats its file's: engines set the owner anew with each name, and that takes capabilities away.
    records = {b"SCHILY.xattr." + name: value for name, value in entry.xattrs}
    split = _split(path)
    if split is None:
        records[b"path"] = path
    if len(target) > 100:
        records[b"linkpath"] = target
    for name, value, largest in (
        (b"uid", entry.uid, _LARGEST_ID), (b"gid", entry.gid, _LARGEST_ID), (b"size", size, _LARGEST_SIZE),
    ):  # fmt: skip
        if value > largest:
            records[name] = b"%d" % value
    prefix, name = split or (b"", path[:100])
    block = _block(
        name,
        _KINDS[entry.type],
        mode=entry.mode,
        uid=0 if b"uid" in records else entry.uid,
        gid=0 if b"gid" in records else entry.gid,
        size=0 if b"size" in records else size,
        epoch=epoch,
        target=target[:100],
        device=entry.device or (0, 0),
        prefix=prefix,
    )
    if not records:
        return block
    body = b"".join(_record(keyword, records[keyword]) for keyword in sorted(records))
    return (
        _block(_PAX_NAME, b"x", mode=0o644, uid=0, gid=0, size=len(body), epoch=epoch)
        + body
        + bytes(-len(body) % BLOCK)
        + block
    )


def _block(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    epoch: int,
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
) -> bytes:
    if max(device) > _LARGEST_DEVICE:
        raise Broken(f"a tar header cannot hold the device number {device[0]}:{device[1]}")
    fields = [
        name.ljust(100, b"\0"),
        b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, epoch),
        b"        ",
        kind,
        target.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0%07o\0" % device,
        prefix.ljust(155, b"\0"),
    ]
    fields[2] = b"%06o\0 " % sum(b"".join(fields))
    return b"".join(fields).ljust(BLOCK, b"\0")


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """(prefix, name) as ustar's two fields, the prefix as short as can be; None if they cannot hold the path."""
    if len(path) <= 100:
        return b"", path
    cut = path.find(b"/", len(path) - 101)
    return (path[:cut], path[cut + 1 :]) if 0 < cut <= 155 and path[cut + 1 :] else None


def _record(keyword: bytes, value: bytes) -> bytes:
    """ "length keyword=value\\n", where the length counts its own digits."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, keyword, value)
