"""Entries as an archive gives them, in any order, made into a tree in canonical order, in memory that does not grow.

What image/settle.py does for an image that is built, for subjects of any size: the same rules, on sorted files.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from builder.forensics.runs import Item, Runs
from builder.forensics.weight import weight
from builder.image.canonical import remember
from builder.image.entry import Entry, EntryType, canonical_key, make_entry, shown
from builder.image.tarheader import ArchiveInvalid, ArchiveTooLarge

_TYPES = {str(one): one for one in EntryType}
_MOST_CHAINED = 50_000
_MOST_ADDED = 1_000_000


@contextmanager
def in_canonical_order(found: Iterable[Entry], directory: Path) -> Iterator[Iterator[Entry]]:
    """Read `found` to its end; give its entries settled, in canonical order.

    `found` is what `read_tar` gives of a whole root file system, with the `sha256` of each file. Hard links get the
    attributes of their file, and the first name of a group is the file; directories that are missing are added as 0755
    root:root. What memory does not hold waits in unnamed files in `directory`; entries that come in order are written
    and read once, and never sorted.

    Raises ArchiveInvalid, which may come with any entry, for paths that come twice, links that lead nowhere, in a
    circle or to a directory, and entries below what is no directory; ArchiveTooLarge.
    """
    with ExitStack() as stack:

        def runs() -> Runs:
            return stack.enter_context(closing(Runs(directory)))

        stored, links, settled = runs(), runs(), runs()
        for entry in found:
            stored.add(_item(entry))
            if entry.type is EntryType.HARDLINK:
                links.add(_link(entry.path, entry.target or b""))
        if links:
            chained = _settle(stored, links, settled)
            if chained:
                direct, settled = runs(), runs()
                for _, _, path, target in links:
                    direct.add(_link(path, _end(path, target, chained)))
                _settle(stored, direct, settled)
        yield _completed(map(_entry, _replaced(_unrepeated(stored), settled)))


# Items: what sorts them, what they weigh, and plain values


def _item(entry: Entry) -> Item:
    return (
        canonical_key(entry.path), weight(entry), entry.path, entry.type.value, entry.mode, entry.uid, entry.gid,
        entry.size, entry.sha256, entry.target, entry.device, entry.xattrs,
    )  # fmt: skip


def _entry(item: Item) -> Entry:
    _, _, path, kind, mode, *rest = item
    # The mode of a symlink means nothing, and archivers write different ones.
    return make_entry(path, _TYPES[kind], 0o777 if kind == "symlink" else mode, *rest)


def _link(path: bytes, target: bytes) -> Item:
    return (canonical_key(target), canonical_key(path)), 300 + 2 * len(path) + 2 * len(target), path, target


# Hard links


def _settle(stored: Runs, links: Runs, settled: Runs) -> dict[bytes, bytes]:
    """Put every name of a file that has several into `settled`. Gives the targets that are links, and theirs."""
    chained: dict[bytes, bytes] = {}
    inodes = _unrepeated(stored)
    inode = next(inodes, None)
    for target, group in groupby(links, key=lambda link: bytes(link[3])):
        paths = (bytes(link[2]) for link in group)
        first = next(paths)
        key = canonical_key(target)
        while inode is not None and inode[0] < key:
            inode = next(inodes, None)
        if inode is None or inode[0] != key:
            raise ArchiveInvalid(f"{shown(first)} is a hard link to {shown(target)}, which is not in the archive")
        entry = _entry(inode)
        if entry.type is EntryType.HARDLINK:
            chained[target] = entry.target or b""
            if len(chained) > _MOST_CHAINED:
                raise ArchiveTooLarge(f"the archive has more than {_MOST_CHAINED} hard links that lead to hard links")
        elif entry.type is EntryType.DIRECTORY:
            raise ArchiveInvalid(f"{shown(first)} is a hard link to a directory")
        else:
            names = heapq.merge([target], [first], paths, key=canonical_key)
            file = replace(entry, path=next(names))
            settled.add(_item(file))
            for name in names:
                settled.add(_item(replace(file, path=name, type=EntryType.HARDLINK, target=file.path)))
    return chained


def _end(path: bytes, target: bytes, chained: dict[bytes, bytes]) -> bytes:
    """Where a chain of links ends, which each of them then knows."""
    passed = {path: None}
    while target in chained:
        if target in passed:
            raise ArchiveInvalid(f"{shown(path)} is a hard link that leads back to itself")
        passed[target] = None
        target = chained[target]
    chained.update(dict.fromkeys(passed.keys() & chained.keys(), target))
    return target


def _replaced(stored: Iterator[Item], settled: Runs) -> Iterator[Item]:
    others = iter(settled)
    other = next(others, None)
    for item in stored:
        if other is not None and other[0] == item[0]:
            yield other
            other = next(others, None)
        else:
            yield item


# Paths


def _unrepeated(stored: Runs) -> Iterator[Item]:
    last: Item | None = None
    for item in stored:
        if last is not None and last[0] == item[0]:
            remember({last[2]: _entry(last)}, _entry(item))
        else:
            last = item
            yield item


def _completed(entries: Iterable[Entry]) -> Iterator[Entry]:
    """With the directories that are missing."""
    last: Entry | None = None
    added = 0
    for entry in entries:
        for missing in reversed(_missing(entry, last)):
            added += 1
            if added > _MOST_ADDED:
                raise ArchiveTooLarge(f"the archive leaves out more than {_MOST_ADDED} directories that it needs")
            yield Entry(missing, EntryType.DIRECTORY, 0o755, 0, 0)
        last = entry
        yield entry


def _missing(entry: Entry, last: Entry | None) -> list[bytes]:
    """The directories above an entry that are not there, nearest first.

    In canonical order, a directory that is there is the entry before, or above it.
    """
    found: list[bytes] = []
    cut = entry.path.rfind(b"/")
    while cut > 0:
        above = entry.path[:cut]
        if last is not None and last.path == above:
            if last.type is not EntryType.DIRECTORY:
                raise ArchiveInvalid(f"{shown(entry.path)} lies below {shown(above)}, which is a {last.type}")
            break
        if last is not None and last.path.startswith(entry.path[: cut + 1]):
            break
        found.append(above)
        cut = entry.path.rfind(b"/", 0, cut)
    return found
