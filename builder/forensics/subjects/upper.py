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

from builder.forensics.collector import SOCKETS, Directory
from builder.image.canonical_rules import keep_xattr
from builder.image.entry import Entry
from builder.image.tarheader import ArchiveTooLarge

Xattrs = tuple[tuple[bytes, bytes], ...]

_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
_EXPORTED = b"security.capability"
_MOST_BYTES = 64 * 1024 * 1024
_NOT_READ = "extended attributes but file capabilities: the engine's export has none; root on its host can read them"
_WHERE = "extended attributes, in the container's own layer, of "


class OwnLayer:
    """The attributes that an export lacks. `unproven` knows what could not be read once the entries have gone by."""

    def __init__(self, inspected: Mapping[str, Any]) -> None:
        self._upper = _upper_layer(inspected)
        self.unproven: tuple[str, ...] = () if self._upper else (_NOT_READ,)

    def added_to(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """The entries of an export with what they lack, if it can be read. Raises ArchiveTooLarge."""
        found = self._attributes(self._upper) if self._upper else {}
        for entry in entries:
            more = found.get(entry.path)
            yield entry if more is None else replace(entry, xattrs=tuple(sorted({*entry.xattrs, *more})))

    def _attributes(self, upper: Path) -> dict[bytes, Xattrs]:
        """By path. The container may be running, and hostile: no name in it is followed, and nothing of it opened."""
        found: dict[bytes, Xattrs] = {}
        size = 0
        try:
            with Directory(str(upper), contents=False) as layer:
                for path in layer.entries():
                    attributes = tuple(one for one in path.xattrs if _is_lacking(one[0]))
                    if attributes:
                        found[path.path] = attributes
                        size += len(path.path) + sum(len(name) + len(value) for name, value in attributes)
                    if size > _MOST_BYTES:
                        raise ArchiveTooLarge(
                            f"the container's files have more than {_MOST_BYTES // 2**20} MiB of attributes"
                        )
                self.unproven = tuple(_WHERE + one for one in layer.notes.told() if not one.startswith(SOCKETS))
        except OSError as error:
            self.unproven = (f"{_NOT_READ} ({error.strerror})",)
        return found


def _upper_layer(inspected: Mapping[str, Any]) -> Path | None:
    """Where the container's own layer is on this machine; None if it cannot be read here."""
    driver = inspected.get("GraphDriver") or {}
    upper = (driver.get("Data") or {}).get("UpperDir")
    if driver.get("Name") != "overlay2" or not isinstance(upper, str):
        return None
    return Path(upper) if Path(upper).is_absolute() and os.access(upper, os.R_OK | os.X_OK) else None


def _is_lacking(name: bytes) -> bool:
    return keep_xattr(name) and name != _EXPORTED and not name.startswith(_OVERLAY)
