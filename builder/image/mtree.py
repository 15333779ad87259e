"""Inventories as BSD mtree(5) specifications, which mtree, bsdtar and others check trees with.

That format has no extended attributes, no packages and no hard links: each name of a file is a file there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from builder.image.entry import Entry, EntryType

_TYPES = {
    EntryType.FILE: "file", EntryType.DIRECTORY: "dir", EntryType.SYMLINK: "link",
    EntryType.CHARACTER: "char", EntryType.BLOCK: "block", EntryType.FIFO: "fifo",
}  # fmt: skip
# What ends a word, starts a comment, an escape or a variable, or makes a pattern of a name.
_SPECIAL = b" #\\*?[=$"


def mtree_lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The lines of a specification, with their line ends. `entries` are those of a whole tree, in canonical order."""
    yield b"#mtree\n"
    yield b". type=dir\n"
    # Another name of what is no file is told as that again; a file repeats all about it itself.
    others: dict[bytes, Entry] = {}
    for entry in entries:
        told = entry
        if entry.type is EntryType.HARDLINK:
            told = others.get(entry.target or b"", entry)
        elif entry.type not in (EntryType.FILE, EntryType.DIRECTORY):
            others[entry.path] = entry
        yield b"./" + _escaped(entry.path) + b" " + " ".join(_keywords(told)).encode("ascii") + b"\n"


def _keywords(entry: Entry) -> Iterator[str]:
    yield f"type={_TYPES.get(entry.type, 'file')}"
    yield f"mode={entry.mode:04o}"
    yield f"uid={entry.uid}"
    yield f"gid={entry.gid}"
    if entry.sha256 is not None:
        yield f"size={entry.size}"
        yield f"sha256digest={entry.sha256}"
    if entry.type is EntryType.SYMLINK:
        yield f"link={_escaped(entry.target or b'').decode('ascii')}"
    if entry.device is not None:
        yield f"device=native,{entry.device[0]},{entry.device[1]}"


def _escaped(name: bytes) -> bytes:
    """As vis(3) does in octal: every byte that is not plain."""
    return b"".join(
        b"%c" % byte if 0x21 <= byte <= 0x7E and byte not in _SPECIAL else b"\\%03o" % byte for byte in name
    )
