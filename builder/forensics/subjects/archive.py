"""Tar archives of a root file system as subjects: a file, or what comes through standard input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from builder.image.canonical import remember
from builder.image.digests import Readable
from builder.image.entry import Entry, EntryType
from builder.image.settle import link_targets, settle
from builder.image.tarstream import Limits, read_tar


def entries_of_archive(stream: Readable, limits: Limits | None = None) -> tuple[Entry, ...]:
    """The entries of a tar archive of a whole root file system, in canonical order; contents are hashed and forgotten.

    Nothing is left out, and a name such as ".wh.x" is a name: in a container it hides nothing, and must not here.
    Raises ArchiveInvalid and ArchiveTooLarge.
    """
    stored: dict[bytes, Entry] = {}
    for entry in hashed(stream, limits):
        remember(stored, entry)
    entries, _ = settle(link_targets(stored), stored)
    return tuple(entries)


def hashed(stream: Readable, limits: Limits | None = None) -> Iterator[Entry]:
    """The entries of a tar archive as they are stored, files with their `sha256`."""
    for entry, content in read_tar(stream, limits):
        if entry.type is not EntryType.FILE:
            yield entry
            continue
        digest = hashlib.sha256()
        for chunk in content:
            digest.update(chunk)
        yield replace(entry, sha256=digest.hexdigest())


@contextmanager
def sorted_entries(stream: Readable, directory: Path) -> Iterator[Iterator[Entry]]:  # noqa: ARG001
    """The entries of a tar archive in canonical order. `directory` is for files without a name.

    Raises ArchiveInvalid and ArchiveTooLarge.
    """
    yield iter(entries_of_archive(stream))


def contents_of_archive(
    opened: Callable[[], Readable], paths: Collection[bytes]
) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """The contents of files of an archive that can be opened more than once. Raises ArchiveInvalid."""
    wanted = {path: path for path in paths}
    sought: set[bytes] = set()
    while wanted:
        sought |= wanted.keys()
        yield from take_contents(opened(), wanted)
        wanted = {stored: path for stored, path in wanted.items() if stored not in sought}


def take_contents(stream: Readable, wanted: dict[bytes, bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """One pass over an archive for the contents of `wanted`, stored path -> path that it is asked for under.

    What is given is taken out of `wanted`. In place of a hard link stands afterwards what it links to, which may have
    gone by.
    """
    links: dict[bytes, bytes] = {}
    for entry, content in read_tar(stream):
        if entry.path not in wanted:
            continue
        path = wanted.pop(entry.path)
        if entry.type is EntryType.FILE:
            yield path, content
        elif entry.type is EntryType.HARDLINK and entry.target is not None:
            links[entry.target] = path
        if not wanted:
            break
    wanted.update(links)
