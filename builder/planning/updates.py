"""Which installed packages the distribution's archive has a newer version of, as apt itself tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builder.planning.apt import AptArchive

_PACKAGE = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?:")
_VERSION = re.compile(r" (?P<mark>\*\*\*|   ) (?P<version>\S+) -?\d+")
_SOURCE = re.compile(r"        *-?\d+ \S+ (?P<suite>[^\s/]+)/\S+ \S+ Packages")
_NONE = "(none)"


@dataclass(frozen=True)
class PendingUpdate:
    """`security` says that the security archive has a version between, or that very one."""

    package: str
    installed: str
    available: str
    security: bool


def pending_updates(archive: AptArchive, packages: Sequence[str], *, status: bytes) -> tuple[PendingUpdate, ...]:
    """Those of `packages`, installed as dpkg's `status` says, that are behind. Raises what the archive raises."""
    if not packages:
        return ()
    archive.refresh()
    return tuple(_pending(archive.versions(sorted(packages), status=status)))


def _pending(told: str) -> Iterator[PendingUpdate]:
    for block in re.split(r"\n(?=\S)", told):
        lines = block.splitlines()
        name = _PACKAGE.fullmatch(lines[0]) if lines else None
        if name is None:
            continue
        fields = dict(line.strip().split(": ", 1) for line in lines[1:3] if ": " in line)
        installed, candidate = fields.get("Installed", _NONE), fields.get("Candidate", _NONE)
        if _NONE in (installed, candidate) or installed == candidate:
            continue
        yield PendingUpdate(name["name"], installed, candidate, _is_security(lines[3:]))


def _is_security(table: Sequence[str]) -> bool:
    """The table has the newest version first, and marks the installed one: what stands above that is newer."""
    for line in table:
        version = _VERSION.match(line)
        if version and version["mark"].strip():
            return False
        source = _SOURCE.match(line)
        if source and source["suite"].endswith("-security"):
            return True
    return False
