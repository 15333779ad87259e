"""Turns names and inodes, as archives give them in any order, into entries in canonical order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import TypeVar

from builder.image.entry import Entry, EntryType, canonical_key, parents, shown
from builder.image.tarheader import ArchiveInvalid

Inode = TypeVar("Inode", bound=Hashable)


def settle(
    names: Mapping[bytes, Inode],
    inodes: Mapping[Inode, Entry],
    edit: Callable[[Entry], Entry | None] = lambda entry: entry,
) -> tuple[list[Entry], dict[Inode, bytes]]:
    """The entries of a tree in canonical order, and the first name of each inode that is kept.

    `names` says which inode each path names, `inodes` what each inode is. `edit` may change an entry or leave it out; a
    name whose content it changed no longer belongs to its hard link group. Of a group the first name in canonical order
    is the file, the others are links to it. Directories that are missing above an entry are added as 0755 root:root,
    which is what engines make of them. Raises ArchiveInvalid for an entry below something that is no directory.
    """
    kept: dict[bytes, Entry] = {}
    first_names: dict[Inode, bytes] = {}
    for path in sorted(names, key=canonical_key):
        inode = inodes[names[path]]
        # The mode of a symlink means nothing, and archivers write different ones.
        mode = 0o777 if inode.type is EntryType.SYMLINK else inode.mode
        changed = path != inode.path or mode != inode.mode
        entry = edit(replace(inode, path=path, mode=mode) if changed else inode)
        if entry is None:
            continue
        if entry.type is not EntryType.DIRECTORY and entry.sha256 == inode.sha256:
            first = first_names.setdefault(names[path], path)
            if first != path:
                # One inode has one mode and one owner: what the first name got holds for all.
                entry = replace(kept[first], path=path, type=EntryType.HARDLINK, target=first)
        kept[path] = entry
    _complete_directories(kept)
    return sorted(kept.values(), key=lambda entry: canonical_key(entry.path)), first_names


def _complete_directories(kept: dict[bytes, Entry]) -> None:
    for path in list(kept):
        for parent in parents(path):
            above = kept.get(parent)
            if above is None:
                kept[parent] = Entry(parent, EntryType.DIRECTORY, 0o755, 0, 0)
            elif above.type is not EntryType.DIRECTORY:
                raise ArchiveInvalid(f"{shown(path)} lies below {shown(parent)}, which is a {above.type}")
            else:
                break  # what is above it was, or will be, seen to on its own account


def link_targets(stored: Mapping[bytes, Entry]) -> dict[bytes, bytes]:
    """For each path of one archive, the path that is its inode: itself, or where a chain of hard links ends.

    Raises ArchiveInvalid for links that lead nowhere, in a circle, or to a directory.
    """
    ends: dict[bytes, bytes] = {}
    for path in stored:
        seen = {path}
        end = path
        while (entry := stored[end]).type is EntryType.HARDLINK:
            target = entry.target or b""
            if target not in stored:
                raise ArchiveInvalid(f"{shown(path)} is a hard link to {shown(target)}, which is not in the archive")
            if target in seen:
                raise ArchiveInvalid(f"{shown(path)} is a hard link that leads back to itself")
            end = ends.get(target, target)
            seen.add(end)
        if end != path and entry.type is EntryType.DIRECTORY:
            raise ArchiveInvalid(f"{shown(path)} is a hard link to a directory")
        ends[path] = end
    return ends
