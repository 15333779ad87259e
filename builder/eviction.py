"""What leaves a cache that is over its limit: first what has not been used for the longest time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """One thing in a cache: its size in bytes, and its last use in UTC seconds."""

    name: str
    size: int
    used: float


def least_recently_used(kept: Iterable[Kept], limit: int, before: float) -> list[Kept]:
    """What has to go so that at most `limit` bytes stay, in the order of use.

    What was used at `before` (UTC seconds) or later may be in use still: it stays, whatever the limit.
    """
    in_order = sorted(kept, key=lambda one: (one.used, one.name))
    excess = sum(one.size for one in in_order) - limit
    going = []
    for one in in_order:
        if excess <= 0 or one.used >= before:
            break
        going.append(one)
        excess -= one.size
    return going
