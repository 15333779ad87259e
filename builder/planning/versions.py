"""The order of Debian versions, as dpkg has it (deb-version(7)), for machines that have no dpkg."""

from __future__ import annotations

import re

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
_Part = tuple[tuple[int, ...], int, str]
VersionKey = tuple[tuple[_Part, ...], ...]


def version_key(version: str) -> VersionKey:
    """Sorts versions, oldest first: epoch, then upstream version, then revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return _parts(epoch), _parts(upstream), _parts(revision)


def _parts(text: str) -> tuple[_Part, ...]:
    """Words and numbers in turn. The last pair is empty: it sorts behind what a `~` begins, and before all else."""
    return tuple(
        ((*(_order(character) for character in word), 0), len(number.lstrip("0")), number.lstrip("0"))
        for word, number in _PARTS.findall(text)
    )


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 0x110000
