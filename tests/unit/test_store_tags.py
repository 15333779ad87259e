"""Whose a tag is, the ledger's order says: a clock may have been set back between two releases."""

from __future__ import annotations

from builder.store import releases
from builder.store.database import Database
from builder.store.schema import Release
from tests.unit.evidence import digest
from tests.unit.releases import DAY, MARCH, released

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
REGISTRY = "registry.example:5000"


def owners(store: Database, *tags: str, repository: str = "golden/web") -> dict[str, str]:
    with store.read() as session:
        return releases.tagged(session, REGISTRY, repository, tags)


def newer(store: Database, build_id: str) -> set[str]:
    with store.read() as session:
        return releases.newer_tags(session, session.get_one(Release, build_id))


def test_a_tag_belongs_to_the_release_that_was_recorded_last(store: Database) -> None:
    released(store, "a", at=MARCH)
    released(store, "b", at=MARCH - DAY)
    assert owners(store, "1", "x") == {"1": digest("b"), "x": digest("b")}


def test_a_release_that_was_recorded_before_has_lost_its_tags_whatever_the_time(store: Database) -> None:
    first = released(store, "a", at=MARCH)
    last = released(store, "b", at=MARCH - DAY)
    assert newer(store, first) == {"1", "x"}
    assert newer(store, last) == set()


def test_a_tag_that_the_newest_did_not_ask_for_stays_with_the_one_before(store: Database) -> None:
    released(store, "a")
    last = released(store, "b")
    with store.write() as session:
        session.get_one(Release, last).tags = ["x"]
    assert owners(store, "1", "x", "unknown") == {"1": digest("a"), "x": digest("b")}


def test_another_repository_has_tags_of_its_own(store: Database) -> None:
    released(store, "a")
    released(store, "b", recipe="python")
    assert owners(store, "1") == {"1": digest("a")}
    assert owners(store, "1", repository="golden/none") == {}
