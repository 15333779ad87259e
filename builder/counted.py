"""Numbers of things, as they are said."""

from __future__ import annotations


def counted(count: int, thing: str) -> str:
    """`1 package`, `2 packages`."""
    return f"{count} {thing}" + "s" * (count != 1)
