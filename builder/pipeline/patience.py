"""Patience with services that are away for a moment: a few tries with growing waits, each told, and an end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from builder.errors import Unavailable
from builder.store.database import DatabaseUnavailable

# Seconds before each further try. Workers that failed together must not come back together: each wait varies by half.
_WAITS = (1.0, 2.0, 4.0)
_TICK = 0.1
# A database that is started again takes seconds; whoever waits longer has lost its lease.
_DATABASE_SECONDS = 30.0

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


def persistently(write: Callable[[], _Answer], *, seconds: float = _DATABASE_SECONDS) -> _Answer:
    """What `write` answers, tried again for so long while the database does not answer.

    `write` is one transaction that may be done twice: whether one was committed, a lost connection does not tell.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return write()
        except DatabaseUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.25, 0.75))  # noqa: S311
