"""Extended attributes in a container's own layer: an engine's export leaves out all but file capabilities.

They are read where the engine keeps the layer, if that is on this machine and may be read. Setting an attribute copies
a file up into that layer, so what was set in the container is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.image.canonical_rules import keep_xattr
from builder.image.entry import Entry
from builder.image.tarheader import ArchiveTooLarge

Xattrs = tuple[tuple[bytes, bytes], ...]

_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
_EXPORTED = b"security.capability"
_MOST = 100_000
NOT_READ = "extended attributes but file capabilities: the engine's export has none; root on its host can read them"


def upper_layer(inspected: Mapping[str, Any]) -> Path | None:
    """Where the container's own layer is on this machine; None if it cannot be read here."""
    driver = inspected.get("GraphDriver") or {}
    upper = (driver.get("Data") or {}).get("UpperDir")
    if driver.get("Name") != "overlay2" or not isinstance(upper, str):
        return None
    return Path(upper) if Path(upper).is_absolute() and os.access(upper, os.R_OK | os.X_OK) else None


def with_attributes(entries: Iterator[Entry], inspected: Mapping[str, Any]) -> Iterator[Entry]:
    """The entries of an export with the attributes that it lacks, if they can be read. Raises ArchiveTooLarge."""
    upper = upper_layer(inspected)
    found = _attributes(upper) if upper else {}
    for entry in entries:
        more = found.get(entry.path)
        yield entry if more is None else replace(entry, xattrs=tuple(sorted({*entry.xattrs, *more})))


def _attributes(upper: Path) -> dict[bytes, Xattrs]:
    """By path. The container may be running: no name in it is followed out of the layer."""
    found: dict[bytes, Xattrs] = {}
    top = os.fsencode(upper)
    for directory, directories, files, descriptor in os.fwalk(top, follow_symlinks=False):
        below = os.path.relpath(directory, top)
        for name in (*directories, *files):
            attributes = tuple(_of(f"/proc/self/fd/{descriptor}/".encode() + name))
            if attributes:
                found[name if below == b"." else below + b"/" + name] = attributes
        if len(found) > _MOST:
            raise ArchiveTooLarge(f"more than {_MOST} files of the container have extended attributes")
    return found


def _of(path: bytes) -> Iterator[tuple[bytes, bytes]]:
    try:
        for text in os.listxattr(path, follow_symlinks=False):
            name = os.fsencode(text)
            if keep_xattr(name) and name != _EXPORTED and not name.startswith(_OVERLAY):
                yield name, os.getxattr(path, text, follow_symlinks=False)
    except FileNotFoundError:
        return  # it went while it was looked at
