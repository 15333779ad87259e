"""An archive's indexes of packages (deb822), as apt has verified them: signed they are, and may still be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from builder.errors import Unavailable
from builder.planning.lock import LockedPackage


class ArchiveUnavailable(Unavailable):
    slug = "archive-unavailable"
    title = "The Debian archive does not answer"


def packages_in(index: Path, wanted: frozenset[str], vendor: str | None) -> Iterator[LockedPackage]:
    """The wanted stanzas of a Packages file (deb822), which apt has verified."""
    stanza: dict[str, str] = {}
    with index.open(encoding="utf-8", errors="replace") as lines:
        for line in chain(lines, ["\n"]):
            if line != "\n":
                name, colon, value = line.partition(": ")
                if colon:
                    stanza[name] = value.strip()
                continue
            if stanza.get("SHA256") in wanted:
                yield _package_of(stanza, vendor)
            stanza = {}


def _package_of(stanza: dict[str, str], vendor: str | None) -> LockedPackage:
    """Raises ArchiveUnavailable: an index can be signed and wrong."""
    try:
        return LockedPackage(
            name=stanza["Package"],
            version=stanza["Version"],
            architecture=stanza["Architecture"],
            size=int(stanza["Size"]),
            sha256=stanza["SHA256"],
            path=stanza["Filename"],
            vendor=vendor,
        )
    except (KeyError, ValueError) as error:
        raise ArchiveUnavailable(
            f"the archive's index does not say all of the package with sha256 {stanza['SHA256']}"
        ) from error
