"""Differences that need no explanation: what a container engine itself writes into every container it makes.

Each is told and counted, never dropped. The conditions are narrow, for places that everybody looks away from are where
intruders put things: a program hidden below /dev is drift.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from builder.image.canonical_rules import is_engine_path, path_regex
from builder.image.entry import Entry, EntryType

_SETID = 0o6000
_LARGEST_ENGINE_FILE = 64 * 1024
_WITH_CONTENT = (b"etc/hostname", b"etc/hosts", b"etc/resolv.conf")
_MOUNT_POINTS = (b"dev", b"proc", b"sys")
_BELOW_MOUNT_POINTS = tuple(path + b"/" for path in _MOUNT_POINTS)
_MADE_FOR_MOUNTS = (*_MOUNT_POINTS, b"etc")
_QUIET_TYPES = (EntryType.DIRECTORY, EntryType.SYMLINK, EntryType.CHARACTER, EntryType.FIFO)


@dataclass(frozen=True)
class Expectation:
    """A place where differences are expected, in the pattern language of the canonical form's table, and why."""

    pattern: str
    reason: str

    def covers(self, path: bytes) -> bool:
        return re.fullmatch(path_regex(self.pattern).encode("utf-8"), path, re.DOTALL) is not None


def expected_reason(
    path: bytes, golden: Entry | None, subject: Entry | None, expectations: Sequence[Expectation] = ()
) -> str | None:
    """Why a difference at a path is expected; None if it is not."""
    if _engine_wrote(path, golden, subject):
        return "written by the container engine"
    if subject is not None and subject.mode & _SETID and subject.type is not EntryType.DIRECTORY:
        return None  # a place to write is no place for a program that changes who one is
    return next((one.reason for one in expectations if one.covers(path)), None)


def _engine_wrote(path: bytes, golden: Entry | None, subject: Entry | None) -> bool:
    if subject is None:
        return is_engine_path(path) or path.partition(b"/")[0] in _MOUNT_POINTS
    if subject.mode & _SETID and subject.type is not EntryType.DIRECTORY:
        return False
    if path == b"etc/mtab":
        return subject.type is EntryType.SYMLINK and subject.target == b"/proc/mounts"
    if path in _WITH_CONTENT:
        return subject.type is EntryType.FILE and subject.size <= _LARGEST_ENGINE_FILE and not subject.xattrs
    if is_engine_path(path) or path.startswith(_BELOW_MOUNT_POINTS):
        return subject.type in _QUIET_TYPES or (subject.type is EntryType.FILE and subject.size == 0)
    # An image without these directories gets them from the engine, to mount things on.
    return path in _MADE_FOR_MOUNTS and golden is None and subject.type is EntryType.DIRECTORY
