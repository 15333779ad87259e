"""How much memory entries take. Their number says little: one with large attributes is as a thousand others."""

from __future__ import annotations

from builder.image.entry import Entry

_WITHOUT_NAMES = 500


def weight(entry: Entry) -> int:
    """The bytes that an entry takes in memory, roughly."""
    names = len(entry.path) + len(entry.target or b"")
    return _WITHOUT_NAMES + names + sum(len(name) + len(value) + 100 for name, value in entry.xattrs)
