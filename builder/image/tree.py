"""A file system tree whose entries are in memory and whose file contents lie in one spool file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from builder.errors import Rejected
from builder.image.changes import Changes
from builder.image.entry import Entry, EntryType, shown
from builder.image.layer import Layer, write_layer
from builder.image.spool import Spool
from builder.image.tarwriter import tar_stream


class FileMissing(Rejected):
    slug = "file-missing"
    title = "A file is not in the image"


class Tree:
    """The canonical tree: `entries` in canonical order. A context manager; leaving it gives the spool's space back."""

    def __init__(self, entries: Sequence[Entry], spool: Spool, offsets: Mapping[bytes, int], epoch: int) -> None:
        self.entries = tuple(entries)
        self.epoch = epoch
        self._spool = spool
        self._offsets = offsets
        self._by_path = {entry.path: entry for entry in self.entries}

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def get(self, path: bytes) -> Entry | None:
        return self._by_path.get(path)

    def contents(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file (or of the file a hard link names) in chunks of at most 1 MiB."""
        path = entry.target if entry.type is EntryType.HARDLINK and entry.target else entry.path
        return self._spool.read(self._offsets.get(path, 0), entry.size)

    def read(self, path: bytes, *, limit: int = 64 * 1024 * 1024) -> bytes:
        """A whole file of at most `limit` bytes. Raises FileMissing."""
        entry = self.get(path)
        if entry is None or entry.type not in (EntryType.FILE, EntryType.HARDLINK):
            raise FileMissing(f"{shown(path)} is not a file in this tree")
        if entry.size > limit:
            raise FileMissing(f"{shown(path)} has {entry.size} bytes; at most {limit} are read at once")
        return b"".join(self.contents(entry))

    def write_layer(self, destination: Path, *, changes: Changes | None = None, threads: int | None = None) -> Layer:
        """Write the whole tree, or only `changes` from a base, as one compressed layer to a new file."""
        entries = self.entries if changes is None else changes.layer_entries
        return write_layer(tar_stream(entries, self.contents, epoch=self.epoch), destination, threads=threads)
