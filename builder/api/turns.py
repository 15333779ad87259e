"""Turns: work that anybody may ask for and that takes its time, a few at once, so that all other requests go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from builder.errors import Unavailable

_Result = TypeVar("_Result")


class TooManyAtOnce(Unavailable):
    slug = "too-many-at-once"
    title = "Too many such requests are under way"


class Turns:
    """`at_once` are worked on in threads of their own; `waiting` more wait, of one caller at most `each` in all."""

    def __init__(self, *, at_once: int = 2, waiting: int = 16, each: int = 4) -> None:
        self._most = at_once + waiting
        self._each = each
        self._callers: Counter[str] = Counter()
        self._limiter = anyio.CapacityLimiter(at_once)

    async def run(self, caller: str, work: Callable[[], _Result]) -> _Result:
        """Raises TooManyAtOnce, and what the work raises."""
        if self._callers.total() >= self._most or self._callers[caller] >= self._each:
            raise TooManyAtOnce(
                "as many such requests are under way as this service does at once", hint="ask again in a moment"
            )
        self._callers[caller] += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]
