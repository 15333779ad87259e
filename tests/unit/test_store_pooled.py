"""PostgreSQL behind PgBouncer in transaction pooling: one client's next transaction may be in another's session.

`TEST_POOLED=1` sends every test of the store there; these are what would break first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import text

from builder.locking import LockTimedOut
from builder.store import builds
from builder.store.database import Database
from builder.store.states import State
from tests.unit.databases import Cluster, pooled
from tests.unit.stored import PROBLEM, claim, submit

pytest_plugins = ["tests.unit.databases"]
_NUMBERS = count()


@pytest.fixture
def through(cluster: Cluster, pooler: Path) -> Iterator[list[Database]]:
    """Three processes' worth of clients, on a database that was migrated through the pooler, too."""
    url = pooled(cluster.create(f"pooled{next(_NUMBERS)}"), pooler)
    found = [Database(url) for _ in range(3)]
    found[0].migrate()
    yield found
    for one in found:
        one.close()


def test_many_say_the_same_again_and_again(through: list[Database]) -> None:
    held = [claim(through[0], submit(through[0])) for _ in range(6)]

    def work(number: int) -> None:
        for turn in range(15):
            database = through[(number + turn) % 3]
            with database.write() as session:
                builds.renew(session, held[number], 60)
            with database.read() as session:
                assert builds.get(session, held[number].build_id).state == State.BUILDING

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_a_turn_is_one_clients_and_ends_with_it(through: list[Database]) -> None:
    for round_ in range(6):
        holder, others = through[round_ % 3], [one for one in through if one is not through[round_ % 3]]
        with holder.turn("an image"):
            for one in others:
                with pytest.raises(LockTimedOut), one.turn("an image", patience=0.1):
                    pytest.fail("it is held")
    inside, most = [0], [0]

    def work(number: int) -> None:
        with through[number % 3].turn("an image"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    with ThreadPoolExecutor(9) as pool:  # more than the pooler has connections
        list(pool.map(work, range(9)))
    assert most == [1]


def test_a_snapshot_stays_one_and_what_fails_is_undone(through: list[Database]) -> None:
    build_id = submit(through[0])
    with through[1].read() as session:
        before = builds.get(session, build_id).state
        with through[0].write() as writing:
            builds.end(writing, builds.get(writing, build_id), State.FAILED, PROBLEM)
        session.expire_all()
        assert builds.get(session, build_id).state == before

    def fail() -> None:
        with through[2].write() as session:
            builds.get(session, build_id).state = State.QUEUED
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with through[1].read() as session:
        assert builds.get(session, build_id).state == State.FAILED


def test_limits_that_the_pooler_does_not_pass_on_are_the_roles(cluster: Cluster, pooler: Path) -> None:
    """As docs/operator.md says."""
    database = f"pooled{next(_NUMBERS)}"
    url = cluster.create(database)
    limits = {"lock_timeout": "30s", "idle_in_transaction_session_timeout": "1min"}
    direct, through = Database(url), Database(pooled(url, pooler))
    with direct.write() as session:
        for name, value in limits.items():
            session.execute(text(f"ALTER ROLE goldsmith IN DATABASE {database} SET {name} = '{value}'"))
    for one in (direct, through):
        with one.read() as session:
            assert {name: session.scalar(text(f"SHOW {name}")) for name in limits} == limits
        one.close()
