"""The shape of every subject: what it is, what it is made of, and what of it nobody looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from builder.errors import Rejected
from builder.image.entry import Entry, parents
from builder.image.inventory import Record


class SubjectUnreadable(Rejected):
    slug = "subject-unreadable"
    title = "What is to be compared cannot be read"


class SubjectKind(StrEnum):
    CONTAINER = "container"
    IMAGE = "image"
    LAYOUT = "layout"
    ARCHIVE = "archive"
    DIRECTORY = "directory"
    INVENTORY = "inventory"


@dataclass(frozen=True)
class Described:
    """`id` is a container's id or an image's manifest digest; `state` is the engine's word for how a container is.

    `image_digests` are the manifest digests of the image it is, or was made from, as the engine or registry says.
    `mounts` are places that are not part of the root file system, each with its kind: `/data (volume)`. `unseen` are
    paths that, with all below them, the entries do not speak of.
    """

    kind: SubjectKind
    name: str
    id: str | None = None
    image_digests: tuple[str, ...] = ()
    state: str | None = None
    mounts: tuple[str, ...] = ()
    unseen: tuple[bytes, ...] = ()


class Subject(Protocol):
    @property
    def described(self) -> Described: ...

    @property
    def configuration(self) -> Mapping[str, Any] | None:
        """A container's inspect document or an image's config; None where there is neither."""

    @property
    def unproven(self) -> tuple[str, ...]:
        """What was not looked at, in plain words. Complete once the entries have been read to their end."""

    def looked_at(self, path: bytes) -> bool:
        """Whether the entries speak of a path. Where they do not, that it is not among them means nothing."""

    def entries(self, directory: Path) -> AbstractContextManager[Iterator[Entry]]:
        """The entries in canonical order, once. `directory` is for unnamed files that sorting or unpacking needs.

        A file that could not be read has no `sha256`, and so is equal to none.
        """

    def contents(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        """The contents of files, in any order, to be read after the entries; what cannot be had is left out.

        A hard link's content is that of its `target`: ask for that.
        """


def golden_part(golden: Iterable[Record], subject: Subject) -> Iterator[Record]:
    """Of a golden inventory, read to its end, the records of paths that the subject was looked at for."""
    return (record for record in golden if subject.looked_at(record.entry.path))


def is_at_or_below(path: bytes, places: Set[bytes]) -> bool:
    return bool(places) and (path in places or any(above in places for above in parents(path)))
