"""An errand is kept for as long as its worker lives and no longer, and is not begun for ever."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import TimeoutError as PoolTimeout

from builder.errors import GoldsmithError
from builder.pipeline.errands import ErrandLost, run_errand
from builder.store import errands
from builder.store.database import Database
from builder.store.errands import ALL_RELEASES, ErrandKind, Taken
from builder.store.measures import measure
from builder.store.schema import Errand
from workers import errands as _errands  # noqa: F401  (their tasks are the application's then)
from workers import release as _release  # noqa: F401
from workers.app import app

pytest_plugins = ["tests.unit.databases"]


def added(database: Database) -> int:
    with database.write() as session:
        errands.add(session, ErrandKind.RESCAN, ALL_RELEASES)
    with database.read() as session:
        return errands.due(session)[0].id


def stored(database: Database, number: int) -> Errand:
    with database.read() as session:
        return session.get_one(Errand, number)


def test_one_that_takes_longer_than_its_lease_is_its_takers_to_the_end(database: Database) -> None:
    number = added(database)
    seen: list[object] = []

    def work(_: Taken) -> None:
        for _ in range(8):
            time.sleep(0.2)
            with database.write() as session:
                seen.append(errands.take(session, number, ErrandKind.RESCAN, 60))
                seen.extend(errands.due(session))

    assert run_errand(database, ErrandKind.RESCAN, number, work, lease_seconds=0.6)
    assert seen == [None] * 8
    done = stored(database, number)
    assert (done.tries, done.problem) == (1, None)
    assert done.done_at is not None


def test_one_that_hangs_is_kept_no_longer_than_any_of_its_kind_takes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(errands.LONGEST_SECONDS, ErrandKind.RESCAN, 1)
    number = added(database)
    held: list[float] = []

    def work(_: Taken) -> None:
        begun = time.monotonic()
        again: Taken | None = None
        while again is None and time.monotonic() < begun + 10:
            time.sleep(0.1)
            with database.write() as session:
                again = errands.take(session, number, ErrandKind.RESCAN, 60)
        held.append(time.monotonic() - begun)

    run_errand(database, ErrandKind.RESCAN, number, work, lease_seconds=0.6)
    assert 1 <= held[0] < 3
    assert stored(database, number).done_at is None  # it is the other's now


@pytest.mark.parametrize("kind", ErrandKind)
def test_its_process_ends_with_its_lease(kind: ErrandKind) -> None:
    # Celery ends the process of a task that goes on for longer, and begins another.
    assert app.tasks[f"goldsmith.{kind}"].time_limit == errands.LONGEST_SECONDS[kind]


def test_a_heartbeat_that_fails_is_followed_by_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    number = added(database)
    renew, beats = errands.renew, [0]

    def failing(*arguments: Any) -> bool:
        beats[0] += 1
        if beats[0] == 1:
            raise PoolTimeout("no connection is free")
        return renew(*arguments)

    def work(_: Taken) -> None:
        until = time.monotonic() + 10
        while beats[0] < 3 and time.monotonic() < until:
            time.sleep(0.05)

    monkeypatch.setattr(errands, "renew", failing)
    run_errand(database, ErrandKind.RESCAN, number, work, lease_seconds=0.8)
    assert beats[0] >= 3
    assert stored(database, number).tries == 1


def test_of_one_that_was_lost_and_taken_again_the_later_taker_has_the_last_word(database: Database) -> None:
    number = added(database)

    def work(_: Taken) -> None:
        with database.write() as session:
            session.execute(update(Errand).values(due_at=time.time() - 1))  # as if this worker had been stopped
            assert errands.take(session, number, ErrandKind.RESCAN, 60) is not None
        time.sleep(0.4)  # its own heartbeats change nothing any more

    run_errand(database, ErrandKind.RESCAN, number, work, lease_seconds=0.4)
    held = stored(database, number)
    assert held.done_at is None
    assert held.tries == 2
    assert held.due_at > time.time() + 30


def test_one_that_kills_its_workers_is_given_up_after_a_few_tries(database: Database) -> None:
    number = added(database)
    told: list[GoldsmithError] = []
    ran: list[int] = []

    def arrive() -> None:
        run_errand(
            database, ErrandKind.RESCAN, number, lambda taken: ran.append(taken.tries),
            lease_seconds=60, most_tries=3, give_up=lambda _, error: told.append(error),
        )  # fmt: skip

    for _ in range(3):  # each of these died at once
        with database.write() as session:
            assert errands.take(session, number, ErrandKind.RESCAN, 60) is not None
            session.execute(update(Errand).values(due_at=time.time() - 1))
    arrive()
    assert ran == []
    assert [type(one) for one in told] == [ErrandLost]
    ended = stored(database, number)
    assert ended.done_at is not None
    assert ended.problem is not None
    assert ended.problem["detail"] == "3 tries, and none came to an end"
    arrive()
    assert len(told) == 1, "and it is not begun again"


def test_what_keeps_it_ends_with_it(database: Database) -> None:
    run_errand(database, ErrandKind.RESCAN, added(database), lambda _: None, lease_seconds=60)
    assert [one.name for one in threading.enumerate() if one.name.startswith("errand-")] == []


def test_errands_that_nobody_takes_are_measured_with_their_queue(database: Database) -> None:
    number = added(database)
    with database.write() as session:
        session.execute(update(Errand).values(due_at=time.time() - 90))
        found = measure(session).queues["errands"]
        assert found.count == 1
        assert 89 < found.oldest < 95
        errands.take(session, number, ErrandKind.RESCAN, 60)
        assert measure(session).queues == {}
