"""One path of a file system tree, as the canonical form and the inventory know it."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from enum import StrEnum
from typing import cast


class EntryType(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    CHARACTER = "character"
    BLOCK = "block"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path.

    `path` is bytes as the kernel knows them, without a leading "./" or "/" and without a trailing "/"; the root itself
    has no entry. `mode` is the 12 permission bits. `size` (bytes) and `sha256` (hex) describe a file's content. A hard
    link names in `target` the first path of its group, which is the file, and repeats that file's mode, owner, size,
    sha256 and extended attributes: two trees can then be compared path by path. A symlink's `target` is its text.
    `device` is (major, minor). `xattrs` is sorted by name.
    """

    path: bytes
    type: EntryType
    mode: int
    uid: int
    gid: int
    size: int = 0
    sha256: str | None = None
    target: bytes | None = None
    device: tuple[int, int] | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


_Unfrozen = make_dataclass("_Unfrozen", [(one.name, one.type) for one in fields(Entry)], slots=True)


def make_entry(
    path: bytes,
    kind: EntryType,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    sha256: str | None,
    target: bytes | None,
    device: tuple[int, int] | None,
    xattrs: tuple[tuple[bytes, bytes], ...],
) -> Entry:
    """What `Entry(...)` makes, in a third of the time, for readers of millions.

    A frozen dataclass sets each of its fields through a call. One with the same slots that is not frozen assigns them,
    and is then made an Entry.
    """
    made = _Unfrozen(path, kind, mode, uid, gid, size, sha256, target, device, xattrs)
    made.__class__ = Entry
    return cast("Entry", made)


def canonical_key(path: bytes) -> bytes:
    """Sorts paths component by component, parents first: what a walk with sorted directories gives."""
    return path.replace(b"/", b"\0")


def parents(path: bytes) -> list[bytes]:
    """The directories above a path, nearest first, the root left out."""
    found = []
    while (cut := path.rfind(b"/")) > 0:
        path = path[:cut]
        found.append(path)
    return found


def shown(path: bytes) -> str:
    """A path for people: absolute, and with anything that could trick a terminal or a log escaped."""
    text = path[:200].decode("utf-8", "backslashreplace")
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return "/" + safe + ("…" if len(path) > 200 else "")
