"""What many requests want at once is done together, and each is answered as if it had been alone."""

from __future__ import annotations

import asyncio
import threading

import pytest

from builder.api.batches import Batches
from builder.errors import Unavailable


def test_what_comes_while_work_is_under_way_is_one_batch() -> None:
    batches: list[list[int]] = []
    free = threading.Event()

    def work(wanted: list[int]) -> list[int]:
        batches.append(wanted)
        free.wait(5)
        return [one * 2 for one in wanted]

    async def ask() -> list[int]:
        doing = Batches(work)
        first = asyncio.create_task(doing.do(0))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(doing.do(number)) for number in range(1, 6)]
        await asyncio.sleep(0.05)
        free.set()
        return [await first, *[await one for one in others]]

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8, 10]
    assert batches == [[0], [1, 2, 3, 4, 5]], "nobody is answered by work that was begun before they asked"


def test_no_batch_is_without_end() -> None:
    sizes: list[int] = []

    def work(wanted: list[int]) -> list[int]:
        sizes.append(len(wanted))
        return wanted

    async def ask() -> None:
        doing = Batches(work)
        await asyncio.gather(*(doing.do(number) for number in range(1000)))

    asyncio.run(ask())
    assert sum(sizes) == 1000
    assert max(sizes) <= 256


def test_one_that_fails_fails_alone() -> None:
    def work(wanted: list[int]) -> list[int]:
        if 3 in wanted:
            raise ValueError("three")
        return wanted

    async def ask() -> list[int | BaseException]:
        doing = Batches(work)
        return list(await asyncio.gather(*(doing.do(number) for number in range(5)), return_exceptions=True))

    found = asyncio.run(ask())
    assert [one for one in found if not isinstance(one, ValueError)] == [0, 1, 2, 4]
    assert isinstance(found[3], ValueError)


def test_when_the_database_is_away_all_are_told_at_once() -> None:
    calls: list[int] = []

    def work(wanted: list[int]) -> list[int]:
        calls.append(len(wanted))
        raise Unavailable("away")

    async def ask() -> list[int | BaseException]:
        doing = Batches(work)
        return list(await asyncio.gather(*(doing.do(number) for number in range(50)), return_exceptions=True))

    assert all(isinstance(one, Unavailable) for one in asyncio.run(ask()))
    assert len(calls) <= 2, "each would have waited for the database in turn"


def test_whoever_goes_away_takes_nobody_along() -> None:
    free = threading.Event()

    def work(wanted: list[int]) -> list[int]:
        free.wait(5)
        return wanted

    async def ask() -> int:
        doing = Batches(work)
        first = asyncio.create_task(doing.do(0))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(doing.do(1))
        await asyncio.sleep(0.02)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        free.set()
        return await second

    assert asyncio.run(ask()) == 1
