"""Tar archives of a root file system as subjects: a file, or what comes through standard input."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from builder.forensics.sorting import in_canonical_order
from builder.forensics.subjects.bounds import Bounds
from builder.forensics.subjects.subject import Described, SubjectKind, SubjectUnreadable
from builder.image.digests import Readable
from builder.image.entry import Entry, EntryType
from builder.image.packing import unpacked
from builder.image.tarstream import ChunkStream, Limits, read_hashed, read_tar

_MAX_WINDOW = 128 * 1024 * 1024


class ArchiveSubject:
    """A tar archive in a file, plain or compressed with gzip or zstd.

    Nothing in it is left out, and a name such as ".wh.x" is a name: in a root file system it hides nothing.
    """

    configuration = None
    unproven: tuple[str, ...] = ()

    def __init__(self, path: Path, bounds: Bounds | None = None) -> None:
        """Raises SubjectUnreadable."""
        self._path = path
        self._bounds = bounds or Bounds()
        self.described = Described(SubjectKind.ARCHIVE, str(path))
        with self._opened():
            pass

    def looked_at(self, path: bytes) -> bool:  # noqa: ARG002
        return True

    @contextmanager
    def entries(self, directory: Path) -> Iterator[Iterator[Entry]]:
        """Raises ArchiveInvalid, ArchiveTooLarge and CompressionInvalid."""
        bounds = self._bounds
        with (
            self._opened() as stream,
            sorted_entries(bounds.stream(plain(stream)), directory, bounds.limits) as entries,
        ):
            yield bounds.entries(entries)

    def contents(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        with ExitStack() as stack:
            yield from contents_of_archive(lambda: plain(stack.enter_context(self._opened())), paths)

    def _opened(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as error:
            raise SubjectUnreadable(f"{self._path} cannot be read: {error.strerror}") from error


class PipedArchiveSubject:
    """A tar archive that can be read only once, such as standard input: it is kept in a file without a name."""

    configuration = None
    unproven: tuple[str, ...] = ()

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.described = Described(SubjectKind.ARCHIVE, name)
        self._stream = stream
        self._kept: IO[bytes] | None = None

    def looked_at(self, path: bytes) -> bool:  # noqa: ARG002
        return True

    @contextmanager
    def entries(self, directory: Path) -> Iterator[Iterator[Entry]]:
        """Raises ArchiveInvalid, ArchiveTooLarge and CompressionInvalid."""
        self._kept = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed with the subject
        with sorted_entries(plain(_Copied(self._stream, self._kept)), directory) as entries:
            yield entries

    def contents(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        assert self._kept is not None, "the entries are read first"
        yield from contents_of_archive(self._again, paths)

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def _again(self) -> Readable:
        assert self._kept is not None, "the entries are read first"
        self._kept.seek(0)
        return plain(self._kept)


class _Copied:
    """A stream of which all that is read is kept."""

    def __init__(self, stream: Readable, copy: IO[bytes]) -> None:
        self._stream = stream
        self._copy = copy

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._copy.write(data)
        return data


def plain(stream: Readable) -> Readable:
    return ChunkStream(unpacked(stream, max_window=_MAX_WINDOW))


@contextmanager
def sorted_entries(stream: Readable, directory: Path, limits: Limits | None = None) -> Iterator[Iterator[Entry]]:
    """The entries of a tar archive in canonical order. `directory` is for files without a name.

    Raises ArchiveInvalid and ArchiveTooLarge.
    """
    with in_canonical_order(read_hashed(stream, limits), directory) as entries:
        yield entries


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

    What is given is taken out of `wanted`. In place of a hard link stands afterwards what it leads to, which may have
    gone by.
    """
    links: dict[bytes, bytes] = {}
    linked: list[tuple[bytes, bytes]] = []
    for entry, content in read_tar(stream):
        if entry.type is EntryType.HARDLINK and entry.target is not None:
            links[entry.path] = entry.target
        if entry.path in wanted:
            path = wanted.pop(entry.path)
            if entry.type is EntryType.FILE:
                yield path, content
            elif entry.path in links:
                linked.append((links[entry.path], path))
        if not wanted and not linked:
            break
    # A chain of links is followed at once: one pass for each of its links would take an evening.
    for target, path in linked:
        passed = set()
        while target in links and target not in passed:
            passed.add(target)
            target = links[target]
        wanted[target] = path
