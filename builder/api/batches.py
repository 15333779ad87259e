"""What many requests want of the database at once, done for all of them in one session, by one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread

from builder.errors import Unavailable

_Wanted = TypeVar("_Wanted")
_Found = TypeVar("_Found")

_Batch = list[tuple[_Wanted, asyncio.Future[_Found]]]

_MOST = 256


class Batches(Generic[_Wanted, _Found]):
    """`work` is given what has come since it was last begun, and answers in the same order.

    Nobody is answered by work that was begun before they asked, so an answer is as fresh as one of their own, and what
    is written is written when they go on. A batch at which the work fails is done again one by one, so that nobody
    fails for another, unless the database is away.
    """

    def __init__(self, work: Callable[[list[_Wanted]], list[_Found]]) -> None:
        self._work = work
        self._waiting: _Batch[_Wanted, _Found] = []
        self._task: asyncio.Task[None] | None = None
        self._limiter = anyio.CapacityLimiter(1)

    async def do(self, wanted: _Wanted) -> _Found:
        """Raises what the work raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Found] = loop.create_future()
        self._waiting.append((wanted, answer))
        if self._task is None or self._task.done():
            # A task of its own: whoever asked first may go away.
            self._task = loop.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                await self._done(batch)
            except Exception as error:
                if len(batch) == 1 or isinstance(error, Unavailable):
                    _refuse(batch, error)
                    continue
                for one in batch:
                    try:
                        await self._done([one])
                    except Exception as own:
                        _refuse([one], own)

    async def _done(self, batch: _Batch[_Wanted, _Found]) -> None:
        wanted = [one for one, _ in batch]
        found = await anyio.to_thread.run_sync(self._work, wanted, limiter=self._limiter)
        for (_, answer), one in zip(batch, found, strict=True):
            if not answer.done():
                answer.set_result(one)


def _refuse(batch: _Batch[_Wanted, _Found], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
