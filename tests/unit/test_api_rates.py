"""Two API processes count together, in a real Redis; and each for itself while it is away."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence

import pytest
import redis

from builder.api.batches import Batches
from builder.api.rates import Counted, Left, Policy, RateLimited, Rates, rate_headers, refuse_exceeded

POLICIES = (Policy("requests", 3), Policy("jobs", 0))


def take(rates: Rates, caller: str, policies: Sequence[Policy]) -> tuple[Left, ...]:
    [found] = rates.take([Counted(caller, policies)])
    return found


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    server = subprocess.Popen(
        ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path_factory.mktemp("redis")),
         "--save", ""],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    found = f"redis://127.0.0.1:{port}/0"
    try:
        with redis.Redis.from_url(found) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        yield found
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(autouse=True)
def _within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() // 60 * 60 + 20
    monkeypatch.setattr("builder.api.rates.time.time", lambda: now)


def test_two_processes_count_together(url: str) -> None:
    one, other = Rates(url, "a"), Rates(url, "a")
    assert [take(rates, "ci", POLICIES)[0].remaining for rates in (one, other, one)] == [2, 1, 0]
    with pytest.raises(RateLimited) as told:
        refuse_exceeded("ci", take(other, "ci", POLICIES))
    assert told.value.retry_after == 40


def test_other_callers_and_other_installations_count_apart(url: str) -> None:
    assert take(Rates(url, "b"), "x", POLICIES)[0].remaining == 2
    assert take(Rates(url, "b"), "y", POLICIES)[0].remaining == 2
    assert take(Rates(url, "c"), "x", POLICIES)[0].remaining == 2


def test_what_is_counted_is_forgotten(url: str) -> None:
    take(Rates(url, "d"), "ci", POLICIES)
    with redis.Redis.from_url(url) as client:
        ages = [client.ttl(key) for key in client.keys("goldsmith-rate:*")]
    assert ages
    assert all(0 < age <= 120 for age in ages)


def test_without_redis_a_process_counts_for_itself_and_does_not_ask_each_time(caplog: pytest.LogCaptureFixture) -> None:
    alone = Rates("redis://127.0.0.1:1/0", "a")
    started = time.monotonic()
    assert [take(alone, "ci", POLICIES)[0].remaining for _ in range(3)] == [2, 1, 0]
    assert take(alone, "ci", POLICIES)[0].exceeded
    assert time.monotonic() - started < 2
    assert len(caplog.records) == 1


def test_without_a_limit_nothing_is_said() -> None:
    assert rate_headers(take(Rates("redis://127.0.0.1:1/0", "a"), "ci", [Policy("requests", 0)])) == {}


def test_requests_that_come_together_are_counted_one_by_one(url: str) -> None:
    two = (Policy("requests", 9), Policy("jobs", 1))
    found = Rates(url, "e").take([Counted("x", two), Counted("y", POLICIES), Counted("x", two)])
    assert [[left.remaining for left in one] for one in found] == [[8, 0], [2], [7, 0]]
    assert [one[-1].exceeded for one in found] == [False, False, True]


def test_a_redis_that_is_slow_is_left_alone_and_the_count_goes_on(url: str) -> None:
    rates = Rates(url, "f")
    assert take(rates, "ci", POLICIES)[0].remaining == 2
    rates._away_until = 0  # a machine that is busy may have made it slow just now
    with redis.Redis.from_url(url) as client:
        client.execute_command("CLIENT", "PAUSE", "150", "ALL")
    assert not rates.alone
    assert take(rates, "ci", POLICIES)[0].remaining == 1
    assert rates.alone
    started = time.monotonic()
    assert [take(rates, "ci", POLICIES)[0].exceeded for _ in range(2)] == [False, True]
    assert time.monotonic() - started < 0.1


def test_a_redis_that_does_not_answer_holds_up_nobody_else() -> None:
    """While one caller's request is counted, the loop answers others."""

    async def both() -> float:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            counting = Batches(Rates(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "g").take)
            counted = asyncio.create_task(counting.do(Counted("ci", POLICIES)))
            longest = 0.0
            while not counted.done():
                before = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - before)
            assert counted.result()[0].remaining == 2
            return longest

    assert asyncio.run(both()) < 0.2
