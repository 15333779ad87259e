"""Differences that need no explanation: what a container engine itself writes into every container it makes.

Each is told and counted, never dropped. The conditions are narrow, for places that everybody looks away from are where
intruders put things: a program hidden below /dev is drift.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from builder.image.canonical_rules import is_engine_path, path_regex
from builder.image.entry import Entry, EntryType, parents

WRITTEN_BY_ENGINE = "written by the container engine"
_SETID = 0o6000
_LARGEST_ENGINE_FILE = 64 * 1024
_WITH_CONTENT = (b"etc/hostname", b"etc/hosts", b"etc/resolv.conf")
_MOUNT_POINTS = (b"dev", b"proc", b"sys")
_MADE_FOR_MOUNTS = (*_MOUNT_POINTS, b"etc")
# What engines make below /dev to mount on, and the links that some leave there.
_BELOW_DEV = frozenset(
    b"dev/" + name
    for name in (
        b"console", b"core", b"fd", b"full", b"hugepages", b"mqueue", b"null", b"ptmx", b"pts", b"random", b"shm",
        b"stderr", b"stdin", b"stdout", b"tty", b"urandom", b"zero",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Expectation:
    """A place where differences are expected, in the pattern language of the canonical form's table, and why."""

    pattern: str
    reason: str

    def covers(self, path: bytes, golden: Entry | None, subject: Entry | None) -> bool:
        del golden, subject
        return self._regex.fullmatch(path) is not None

    @cached_property
    def _regex(self) -> re.Pattern[bytes]:
        return re.compile(path_regex(self.pattern).encode("utf-8"), re.DOTALL)


@dataclass(frozen=True)
class MountPoint(Expectation):
    """What an engine makes to mount on, at `pattern`, a plain path: an empty file or directory, and directories above.

    What lies below a mount point is not excused: it was there before something was mounted over it.
    """

    def covers(self, path: bytes, golden: Entry | None, subject: Entry | None) -> bool:
        place = self.pattern.encode("utf-8", "surrogateescape")
        if golden is not None or subject is None or subject.xattrs:
            return False
        if path == place:
            return subject.type is EntryType.DIRECTORY or (subject.type is EntryType.FILE and subject.size == 0)
        return path in parents(place) and subject.type is EntryType.DIRECTORY


def writable(directories: Iterable[str], reason: str) -> tuple[Expectation, ...]:
    """Everything below these absolute paths. "/" is not taken: it would excuse everything."""
    plain = (directory.strip("/") for directory in directories)
    return tuple(Expectation(directory + "/**", reason) for directory in plain if directory)


def mount_points(places: Iterable[str]) -> tuple[Expectation, ...]:
    """What the engine made at these absolute paths, to mount on."""
    plain = (place.strip("/") for place in places)
    return tuple(MountPoint(place, "made by the container engine to mount on") for place in plain if place)


def expected_reason(
    path: bytes, golden: Entry | None, subject: Entry | None, expectations: Sequence[Expectation] = ()
) -> str | None:
    """Why a difference at a path is expected; None if it is not. No place excuses a program that changes who one is."""
    if engine_wrote(path, golden, subject):
        return WRITTEN_BY_ENGINE
    if subject is not None and _changes_identity(subject):
        return None
    return next((one.reason for one in expectations if one.covers(path, golden, subject)), None)


def _changes_identity(entry: Entry) -> bool:
    if entry.type is EntryType.DIRECTORY:
        return False
    return bool(entry.mode & _SETID) or any(name == b"security.capability" for name, _ in entry.xattrs)


def engine_wrote(path: bytes, golden: Entry | None, subject: Entry | None) -> bool:
    """Whether a container engine itself leaves this in every container it makes."""
    if subject is None:
        return is_engine_path(path) or path.partition(b"/")[0] in _MOUNT_POINTS
    if _changes_identity(subject):
        return False
    if path == b"etc/mtab":
        return subject.type is EntryType.SYMLINK and subject.target == b"/proc/mounts"
    if path in _WITH_CONTENT:
        if subject.type is not EntryType.FILE or subject.xattrs:
            return False
        # Docker leaves an empty one, mode 0755, to mount its own on.
        return subject.size == 0 or (subject.size <= _LARGEST_ENGINE_FILE and not subject.mode & 0o111)
    if path == b".dockerenv":
        return subject.type is EntryType.FILE and subject.size == 0
    if path in _BELOW_DEV:
        empty = subject.type is EntryType.FILE and subject.size == 0
        return empty or subject.type in (EntryType.DIRECTORY, EntryType.SYMLINK)
    # An image without these directories gets them from the engine, to mount things on.
    return path in _MADE_FOR_MOUNTS and golden is None and subject.type is EntryType.DIRECTORY
