"""A container by what its engine names as changed: fast, and no proof of anything that the engine does not name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import docker.errors

from builder.engine.owners import Owners
from builder.forensics.sorting import in_canonical_order
from builder.forensics.subjects.container import Container, engine_asked, find_container
from builder.forensics.subjects.subject import Described, is_at_or_below
from builder.forensics.subjects.upper import OwnLayer
from builder.image.digests import Readable
from builder.image.entry import Entry, EntryType, canonical_key, shown
from builder.image.tarstream import ChunkStream, read_hashed, read_tar

_CHUNK = 256 * 1024
_DELETED = 2
_UNKNOWN = "\ufffd".encode()
_LEFT_OPEN = (
    "every path that the engine does not name as changed: its store and its record of changes are believed, so what was"
    " changed in the store below the container's own layer is not seen",
    "the container's configuration, but as the engine tells it",
    "which of the changed names are hard links to one another, or were",
)


class ChangedSubject:
    """The paths that the engine names, each as it is now, of a directory no more than itself.

    `looked_at` knows which these are once the entries have been opened; memory grows with their number. Making one
    raises SettingsInvalid if the engine has user namespaces and does not say where, and EngineUnavailable.
    """

    def __init__(self, engine: docker.DockerClient, container: Container) -> None:
        self._engine = engine
        self._container = container
        with engine_asked():
            self._owners = Owners.of(engine.info())
        self._own_layer = OwnLayer(container.inspected)
        self._mounts = frozenset(destination.strip("/").encode("utf-8") for destination, _ in container.mounts)
        self._named: set[bytes] = set()
        self._replaced: set[bytes] = set()
        self._hidden: list[bytes] = []

    @property
    def described(self) -> Described:
        return self._container.described

    @property
    def configuration(self) -> dict[str, Any]:
        return self._container.inspected

    @property
    def unproven(self) -> tuple[str, ...]:
        mounted = tuple(f"what is mounted at {mount}" for mount in self.described.mounts)
        hidden = tuple(f"what became of {shown(path)}, a socket or below a mount" for path in self._hidden)
        return _LEFT_OPEN + mounted + hidden + self._own_layer.unproven

    def looked_at(self, path: bytes) -> bool:
        told = _as_told(path)
        if told in self._named:
            return True
        cut = len(told)
        while (cut := told.rfind(b"/", 0, cut)) > 0:
            if told[:cut] in self._replaced:
                return True
        return False

    @contextmanager
    def entries(self, directory: Path) -> Iterator[Iterator[Entry]]:
        """Raises ContainerUnknown, EngineUnavailable and ArchiveInvalid."""
        found: dict[bytes, Entry] = {}
        for told, deleted in self._changes():
            self._look_at(told, deleted, found, directory)
        # What is not found has been deleted, and not with the container itself.
        find_container(self._engine, self._container.id)
        there = iter(sorted(found.values(), key=lambda entry: canonical_key(entry.path)))
        yield self._own_layer.added_to(there)

    def contents(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        for path in paths:
            stream = self._archive(path)
            if stream is None:
                continue
            for entry, content in read_tar(stream):
                if entry.type is EntryType.FILE:
                    yield path, content
                break

    def _changes(self) -> list[tuple[bytes, bool]]:
        """The paths, parents first, and whether each is said to be deleted."""
        with engine_asked():
            changes = self._engine.api.diff(self._container.id) or []
        told = [(str(one["Path"]).strip("/").encode("utf-8"), one["Kind"] == _DELETED) for one in changes]
        return sorted(told, key=lambda change: canonical_key(change[0]))

    def _look_at(self, told: bytes, deleted: bool, found: dict[bytes, Entry], directory: Path) -> None:
        if is_at_or_below(told, self._mounts):
            # What can be read there is what is mounted.
            self._hidden.append(told)
            return
        self._named.add(_as_told(told))
        entries = list(self._there(told, deleted, directory))
        found.update((entry.path, entry) for entry in entries)
        # A directory that is there and is said to be deleted is another, with nothing of what was in the first.
        if deleted or not entries or entries[0].type is not EntryType.DIRECTORY:
            self._replaced.add(_as_told(told))

    def _there(self, told: bytes, deleted: bool, directory: Path) -> Iterator[Entry]:
        stream = self._archive(told)
        if stream is None:
            if _UNKNOWN in told:
                yield from self._named_like(told)
        elif deleted:
            whole = (_moved(entry, told) for entry in self._read(stream))
            with in_canonical_order(whole, directory) as entries:
                yield from (entry for entry in entries if is_at_or_below(entry.path, {told}))
        elif entry := next(self._read(stream), None):
            yield _moved(entry, told)
        else:
            # Engines leave sockets out of archives.
            self._hidden.append(told)

    def _named_like(self, told: bytes) -> Iterator[Entry]:
        """The paths whose names are not UTF-8, and which the engine can tell only so."""
        above = told[: told.index(_UNKNOWN)].rpartition(b"/")[0]
        stream = self._archive(above)
        for found in self._read(stream) if stream is not None else ():
            entry = _moved(found, above) if above else found
            if _as_told(entry.path) == _as_told(told):
                yield entry

    def _read(self, stream: Readable) -> Iterator[Entry]:
        for entry in read_hashed(stream):
            uid, gid = self._owners.inside(entry.uid, entry.gid)
            yield entry if (uid, gid) == (entry.uid, entry.gid) else replace(entry, uid=uid, gid=gid)

    def _archive(self, path: bytes) -> Readable | None:
        """What `docker cp` would give: the path, and all below it."""
        with engine_asked():
            try:
                chunks, _ = self._engine.api.get_archive(
                    self._container.id, "/" + path.decode("utf-8", "replace"), chunk_size=_CHUNK
                )
            except docker.errors.NotFound:
                return None

        def asked() -> Iterator[bytes]:
            with engine_asked():
                yield from chunks

        return ChunkStream(asked())


def _as_told(path: bytes) -> bytes:
    """A path as the engine's JSON tells it: what is not UTF-8 in it is replaced, however much that is."""
    if path.isascii():
        return path
    return re.sub(_UNKNOWN + b"(?:" + _UNKNOWN + b")+", _UNKNOWN, path.decode("utf-8", "replace").encode("utf-8"))


def _moved(entry: Entry, top: bytes) -> Entry:
    """An entry of an archive whose first component stands for the path `top`."""

    def path(stored: bytes) -> bytes:
        rest = stored.partition(b"/")[2]
        return top + b"/" + rest if rest else top

    linked = entry.type is EntryType.HARDLINK and entry.target is not None
    return replace(entry, path=path(entry.path), target=path(entry.target or b"") if linked else entry.target)
