"""A holder of a lock that has stopped and is not dead stops nobody for ever. On PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from builder.locking import LockTimedOut
from builder.store import builds
from builder.store.database import Database, DatabaseUnavailable
from tests.unit.databases import Cluster
from tests.unit.stored import claim, submit

pytest_plugins = ["tests.unit.databases"]
_NUMBERS = count()


def shown(session: Session, name: str) -> str:
    return str(session.scalar(text(f"SHOW {name}")))


@pytest.fixture
def url(migrated_cluster: Cluster) -> str:
    return migrated_cluster.create(f"limits{next(_NUMBERS)}", "migrated")


@pytest.fixture
def hasty(url: str) -> Iterator[Database]:
    """The service's limits, in a test's time: what the URL says goes before the service's own."""
    found = Database(f"{url}&options=-c%20lock_timeout%3D200ms%20-c%20idle_in_transaction_session_timeout%3D300ms")
    yield found
    found.close()


def test_every_transaction_has_limits(url: str) -> None:
    database = Database(url)
    with database.read() as session:
        assert shown(session, "lock_timeout") == "30s"
    with database.write() as session:
        assert shown(session, "idle_in_transaction_session_timeout") == "1min"
    database.close()


def test_whoever_waits_too_long_for_a_row_may_try_again(hasty: Database) -> None:
    held = claim(hasty, submit(hasty))
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with hasty.write() as session:
            builds.hold(session, held)
            taken.set()
            while not done.wait(0.1):
                session.execute(text("SELECT 1"))  # busy, not idle

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        assert taken.wait(5)
        with pytest.raises(DatabaseUnavailable) as caught, hasty.write() as session:
            builds.hold(session, held)
        done.set()
        holder.result()
    assert caught.value.retryable


def test_whoever_stops_in_a_transaction_loses_it_and_may_try_again(hasty: Database) -> None:
    held = claim(hasty, submit(hasty))

    def stop_for_a_while() -> None:
        with hasty.write() as session:
            builds.hold(session, held)
            time.sleep(0.6)
            builds.hold(session, held)

    with pytest.raises(DatabaseUnavailable) as caught:
        stop_for_a_while()
    assert caught.value.retryable
    with hasty.write() as session:
        builds.hold(session, held)


def test_a_turn_lasts_longer_than_a_transaction_may(hasty: Database) -> None:
    with hasty.turn("an image"):
        time.sleep(0.6)
        with pytest.raises(LockTimedOut), hasty.turn("an image", patience=0.1):
            pytest.fail("it is held")


def test_migrations_wait_for_each_other_as_long_as_it_takes(hasty: Database) -> None:
    with ThreadPoolExecutor(1) as pool, hasty.write() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(1735355492)"))
        second = pool.submit(hasty.migrate)
        for _ in range(5):
            time.sleep(0.1)
            session.execute(text("SELECT 1"))
        assert not second.done()
        session.commit()
        second.result(30)
