"""Two API processes count together, in a real Redis; and each for itself while it is away."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
import redis

from builder.api.rates import Policy, RateLimited, Rates, rate_headers, refuse_exceeded

POLICIES = (Policy("requests", 3), Policy("jobs", 0))


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
    assert [rates.take("ci", POLICIES)[0].remaining for rates in (one, other, one)] == [2, 1, 0]
    with pytest.raises(RateLimited) as told:
        refuse_exceeded("ci", other.take("ci", POLICIES))
    assert told.value.retry_after == 40


def test_other_callers_and_other_installations_count_apart(url: str) -> None:
    assert Rates(url, "b").take("x", POLICIES)[0].remaining == 2
    assert Rates(url, "b").take("y", POLICIES)[0].remaining == 2
    assert Rates(url, "c").take("x", POLICIES)[0].remaining == 2


def test_what_is_counted_is_forgotten(url: str) -> None:
    Rates(url, "d").take("ci", POLICIES)
    with redis.Redis.from_url(url) as client:
        ages = [client.ttl(key) for key in client.keys("goldsmith-rate:*")]
    assert ages
    assert all(0 < age <= 120 for age in ages)


def test_without_redis_a_process_counts_for_itself_and_does_not_ask_each_time(caplog: pytest.LogCaptureFixture) -> None:
    alone = Rates("redis://127.0.0.1:1/0", "a")
    started = time.monotonic()
    assert [alone.take("ci", POLICIES)[0].remaining for _ in range(3)] == [2, 1, 0]
    assert alone.take("ci", POLICIES)[0].exceeded
    assert time.monotonic() - started < 2
    assert len(caplog.records) == 1


def test_without_a_limit_nothing_is_said() -> None:
    assert rate_headers(Rates("redis://127.0.0.1:1/0", "a").take("ci", [Policy("requests", 0)])) == {}
