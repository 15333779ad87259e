"""Packages that signed indexes have stated: known by all that an index says of one. On SQLite and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from builder.store.database import Database
from builder.store.packages import KnownPackage, Stated, remember, unknown

pytest_plugins = ["tests.unit.databases"]

TINI = Stated("a" * 64, "tini", "0.19.0-3+b7", "amd64")
HELLO = Stated("b" * 64, "hello", "2.10-5", "amd64")


def many(count: int) -> list[Stated]:
    return [Stated(f"{number:064x}", f"package{number}", "1:2.0~rc1-1", "all") for number in range(count)]


def noted(database: Database, *packages: Stated) -> None:
    with database.write() as session:
        remember(session, packages)


def missing(database: Database, *packages: Stated) -> list[Stated]:
    with database.read() as session:
        return unknown(session, packages)


def count(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(KnownPackage)) or 0


def test_nothing_is_known_that_no_index_has_stated(database: Database) -> None:
    assert missing(database, TINI, HELLO) == [TINI, HELLO]


def test_what_was_stated_is_known_from_then_on(database: Database) -> None:
    noted(database, TINI)
    assert missing(database, HELLO, TINI) == [HELLO]
    noted(database, HELLO)
    assert missing(database, HELLO, TINI) == []


@pytest.mark.parametrize(
    "lie", [{"name": "libc6"}, {"version": "0.19.0-3"}, {"architecture": "arm64"}, {"sha256": "c" * 64}]
)
def test_what_differs_in_one_thing_is_unknown(database: Database, lie: dict[str, str]) -> None:
    noted(database, TINI)
    assert missing(database, replace(TINI, **lie)) == [replace(TINI, **lie)]


def test_one_digest_means_what_was_stated_of_it_first(database: Database) -> None:
    other = replace(TINI, version="99.0-1")
    noted(database, TINI)
    noted(database, other, HELLO)
    assert missing(database, TINI, other, HELLO) == [other]
    assert count(database) == 2


def test_the_same_may_be_noted_twice_at_once_and_again(database: Database) -> None:
    noted(database, TINI, TINI)
    noted(database, TINI)
    assert missing(database, TINI, TINI) == []
    assert count(database) == 1


def test_nothing_is_noted_of_nothing(database: Database) -> None:
    noted(database)
    assert (missing(database), count(database)) == ([], 0)


@pytest.mark.parametrize("size", [500, 501, 1201])
def test_of_any_number_each_counts(database: Database, size: int) -> None:
    packages = many(size + 1)
    noted(database, *packages[:-1])
    assert count(database) == size
    lies = [replace(packages[0], name="x"), replace(packages[size - 1], name="x")]
    assert missing(database, *packages, *lies) == [packages[-1], *lies]


def test_workers_that_note_the_same_in_other_orders_do_not_stop_each_other(database: Database) -> None:
    packages = many(3000)
    with ThreadPoolExecutor(2) as workers:
        for started in [workers.submit(noted, database, *order) for order in (packages, packages[::-1])]:
            started.result(timeout=60)
    assert missing(database, *packages) == []
