"""One thing that was looked at, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """`detail` says what was found; of one that failed, why."""

    name: str
    passed: bool
    detail: str
