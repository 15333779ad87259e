"""What a stack of layers looks like from inside a container (image-spec, layer.md: applying changesets)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from builder.image.canonical import remember
from builder.image.changes import WHITEOUT
from builder.image.digests import Readable
from builder.image.entry import Entry, EntryType, parents, shown
from builder.image.settle import settle
from builder.image.tarheader import ArchiveInvalid
from builder.image.tarstream import Limits, read_tar

_OPAQUE = b".wh..wh..opq"


def flatten(layers: Iterable[Readable], limits: Limits | None = None) -> tuple[Entry, ...]:
    """The entries of the tree that uncompressed layers, lowest first, make together, in canonical order.

    File contents are hashed and forgotten; nothing is left out by the canonical form's table. `limits` hold for each
    layer, and the number of entries for all of them together. Raises ArchiveInvalid and ArchiveTooLarge.
    """
    limits = limits or Limits()
    names: dict[bytes, int] = {}
    inodes: dict[int, Entry] = {}
    left = limits.max_entries
    for layer in layers:
        left -= _apply(layer, replace(limits, max_entries=left), names, inodes)
    entries, _ = settle(names, inodes)
    return tuple(entries)


def _apply(layer: Readable, limits: Limits, names: dict[bytes, int], inodes: dict[int, Entry]) -> int:
    """Answers how many entries the layer has."""
    stored: dict[bytes, Entry] = {}
    count = 0
    removed: set[bytes] = set()
    hidden_below: set[bytes] = set()
    for found, content in read_tar(layer, limits):
        entry = found
        count += 1
        directory, slash, name = entry.path.rpartition(b"/")
        if name == _OPAQUE:
            hidden_below.add(directory)
        elif name.startswith(WHITEOUT):
            removed.add(directory + slash + name.removeprefix(WHITEOUT))
        else:
            if entry.type is EntryType.FILE:
                digest = hashlib.sha256()
                for chunk in content:
                    digest.update(chunk)
                entry = replace(entry, sha256=digest.hexdigest())
            if entry.type is not EntryType.DIRECTORY:
                hidden_below.add(entry.path)
            remember(stored, entry)

    # Whiteouts hide what lower layers hold, never what their own layer does, wherever they stand in the archive.
    gone = removed | hidden_below
    for path in [path for path in names if path in removed or any(p in gone for p in parents(path)) or b"" in gone]:
        del names[path]
    number = len(inodes)
    for path, entry in stored.items():
        if entry.type is not EntryType.HARDLINK:
            number += 1
            inodes[number] = entry
            names[path] = number
    _link(stored, names)
    return count


def _link(stored: dict[bytes, Entry], names: dict[bytes, int]) -> None:
    """Hard links last, for an archive may name a link before its file. A link may reach into a lower layer."""
    links = {path: entry.target or b"" for path, entry in stored.items() if entry.type is EntryType.HARDLINK}
    for path in links:
        names.pop(path, None)
    for path in links:
        chain = [path]
        while (target := links[chain[-1]]) in links and target not in names:
            if target in chain:
                raise ArchiveInvalid(f"{shown(path)} is a hard link that leads back to itself")
            chain.append(target)
        if target not in names:
            raise ArchiveInvalid(f"{shown(path)} is a hard link to {shown(target)}, which is in no layer")
        for name in chain:
            names[name] = names[target]
