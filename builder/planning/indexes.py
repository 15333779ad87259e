"""What an archive's Packages files state (Debian's repository format, deb822)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from builder.planning.lock import LockedPackage


def stated_in(index: Path, wanted: frozenset[str], vendor: str | None) -> Iterator[LockedPackage]:
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
                yield LockedPackage(
                    name=stanza["Package"],
                    version=stanza["Version"],
                    architecture=stanza["Architecture"],
                    size=int(stanza["Size"]),
                    sha256=stanza["SHA256"],
                    path=stanza["Filename"],
                    vendor=vendor,
                )
            stanza = {}
