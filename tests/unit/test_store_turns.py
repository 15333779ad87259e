"""One at a time, of all processes that share a database: on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from builder.errors import Unavailable
from builder.locking import LockTimedOut
from builder.store.database import Database, DatabaseUnavailable

pytest_plugins = ["tests.unit.databases"]


def test_threads_take_turns(database: Database) -> None:
    inside, most = [0], [0]

    def work(_: int) -> None:
        with database.turn("an image"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == [1]


def test_whoever_waits_too_long_gives_up(database: Database) -> None:
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with database.turn("an image"):
            taken.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(5)
    with pytest.raises(LockTimedOut), database.turn("an image", patience=0.2):
        pytest.fail("it is somebody else's turn")
    with database.turn("another", patience=0.2):
        pass
    done.set()
    holder.join()
    with database.turn("an image", patience=1):
        pass


def test_the_death_of_its_holder_ends_a_turn(database: Database, url: str) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold_until_killed, args=(url, held))
    holder.start()
    assert held.wait(30)
    with pytest.raises(LockTimedOut), database.turn("an image", patience=0.2):
        pytest.fail("it is held")
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with database.turn("an image", patience=5):
        pass


def test_a_failure_inside_ends_it_too(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.turn("an image"):
        raise ZeroDivisionError
    with database.turn("an image", patience=0.5):
        pass


def test_a_database_that_is_away_is_worth_another_try(tmp_path: Path) -> None:
    database = Database(f"postgresql://goldsmith@/x?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable) as caught, database.turn("an image"):
        pytest.fail("there is no database")
    assert caught.value.retryable


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_of_a_connection_that_is_lost_inside_only_what_was_done_there_tells(database: Database) -> None:
    with database.turn("an image"):
        end_all_others(database)

    def fail() -> None:
        with database.turn("an image"):
            end_all_others(database)
            raise Unavailable("the registry is away")

    with pytest.raises(Unavailable, match="the registry is away"):
        fail()
    with database.turn("an image", patience=1), database.read() as session:
        assert session.scalar(text("SELECT 1")) == 1


def end_all_others(database: Database) -> None:
    """As an operator does, or a server that is started anew: of every session but the one that asks."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with database.read() as session:
        assert session.scalar(text(f"SELECT count(pg_terminate_backend(pid, 5000)) {others}"))


def hold_until_killed(url: str, held: threading.Event) -> None:
    with Database(url).turn("an image"):
        held.set()
        time.sleep(60)
