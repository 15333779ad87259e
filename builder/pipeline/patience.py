"""Patience with services that are away for a moment: a few tries with growing waits, each told, and an end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from builder.errors import Unavailable

# Seconds before each further try. Workers that failed together must not come back together: each wait varies by half.
_WAITS = (1.0, 2.0, 4.0)
_TICK = 0.1

_Answer = TypeVar("_Answer")


def patiently(work: Callable[[], _Answer], *, check: Callable[[], None], told: Callable[[str], None]) -> _Answer:
    """What `work` answers. Only Unavailable is worth another try; the last one is raised.

    `check` is called while waiting, and raises to end it; `told` gets a line for each failure that is not the last.
    """
    for wait in _WAITS:
        try:
            return work()
        except Unavailable as error:
            seconds = wait * random.uniform(0.5, 1.5)  # noqa: S311
            told(f"{error.detail}: trying again in {seconds:.1f} s")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            check()
            time.sleep(_TICK)
    return work()
