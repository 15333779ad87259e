"""A request with a key is carried out by one, and its answer is kept with what it made. On SQLite and PostgreSQL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import update

from builder.store import builds, idempotency, outbox
from builder.store.database import Database
from builder.store.idempotency import Answered, Asked, IdempotentRequest, KeyReused, RequestUnderWay, Turn
from tests.unit.stored import messages, submission

pytest_plugins = ["tests.unit.databases"]

ASKED = Asked("ci", "k", "sha256:" + "1" * 64)
ANSWER = Answered(202, "/v1/builds/x", "{}")


def begin(database: Database, asked: Asked = ASKED, *, lease: float = 60, kept: float = 60) -> Turn | Answered:
    with database.write() as session:
        return idempotency.begin(session, asked, lease_seconds=lease, kept_seconds=kept)


def turn(database: Database, asked: Asked = ASKED, *, lease: float = 60, kept: float = 60) -> Turn:
    found = begin(database, asked, lease=lease, kept=kept)
    assert isinstance(found, Turn)
    return found


def remember(database: Database, held: Turn) -> None:
    with database.write() as session:
        idempotency.remember(session, held, ANSWER)


def make(database: Database, held: Turn, *, crash: bool = False) -> None:
    """A build and the answer that tells of it, together."""
    with database.together():
        with database.write() as session:
            builds.submit(session, submission())
        remember(database, held)
        if crash:
            raise ZeroDivisionError


def test_one_of_many_at_the_same_instant_gets_the_turn(database: Database) -> None:
    for number in range(5):
        barrier = threading.Barrier(12)

        def ask(_: int, number: int = number, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            try:
                return type(begin(database, replace(ASKED, key=f"k{number}"))).__name__
            except RequestUnderWay:
                return "under way"

        with ThreadPoolExecutor(12) as pool:
            assert sorted(pool.map(ask, range(12))) == ["Turn"] + ["under way"] * 11


def test_the_answer_is_given_again_to_the_same_request_of_the_same_caller(database: Database) -> None:
    remember(database, turn(database))
    assert begin(database) == ANSWER
    turn(database, replace(ASKED, caller="another"))
    turn(database, replace(ASKED, key="another"))


@pytest.mark.parametrize("answered", [True, False])
def test_another_request_with_the_key_is_refused(database: Database, answered: bool) -> None:
    held = turn(database)
    if answered:
        remember(database, held)
    with pytest.raises(KeyReused, match="new key"):
        begin(database, replace(ASKED, fingerprint="sha256:" + "2" * 64))


def test_what_came_to_nothing_leaves_the_key_free(database: Database) -> None:
    held = turn(database)
    with database.write() as session:
        idempotency.forget(session, held)
    turn(database, replace(ASKED, fingerprint="sha256:" + "2" * 64))


def test_an_answer_is_not_forgotten_by_whoever_gave_it(database: Database) -> None:
    held = turn(database)
    remember(database, held)
    with database.write() as session:
        idempotency.forget(session, held)
    assert begin(database) == ANSWER


def test_whoever_was_silent_for_too_long_is_followed_by_another_and_keeps_nothing(database: Database) -> None:
    late = turn(database, lease=0.001)
    time.sleep(0.01)
    second = turn(database)
    with pytest.raises(RequestUnderWay):
        make(database, late)
    assert messages(database) == []
    remember(database, second)


def test_a_crash_before_the_end_leaves_neither_build_nor_answer(database: Database) -> None:
    held = turn(database, lease=0.001)
    with pytest.raises(ZeroDivisionError):
        make(database, held, crash=True)
    time.sleep(0.01)
    assert messages(database) == []
    turn(database)


def test_who_has_written_together_reads_it_and_others_do_not_yet(database: Database) -> None:
    with database.together():
        with database.write() as session:
            build_id = builds.submit(session, submission()).id
        with database.read() as session:
            assert builds.get(session, build_id).id == build_id
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(unsent, database).result() == 0
    assert messages(database) == [(build_id, "build")]


def unsent(database: Database) -> int:
    with database.read() as session:
        return len(outbox.due(session))


def test_keys_expire_and_are_swept(database: Database) -> None:
    remember(database, turn(database))
    with database.write() as session:
        session.execute(update(IdempotentRequest).values(expires_at=time.time() - 1))
    turn(database, replace(ASKED, fingerprint="sha256:" + "2" * 64), kept=0.001)
    time.sleep(0.01)
    turn(database, replace(ASKED, key="young"))
    with database.write() as session:
        idempotency.forget_expired(session)
        assert [one.key for one in session.query(IdempotentRequest)] == ["young"]
