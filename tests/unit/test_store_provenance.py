"""An export of all releases: each of them once and in order, however slowly somebody takes them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from builder.store import provenance
from builder.store.database import Database
from builder.store.provenance import ReleasesWanted
from tests.unit.releases import DAY, MARCH, released

pytest_plugins = ["tests.unit.databases"]
_IDLE_SECONDS = 0.5


@pytest.fixture
def impatient(url: str) -> Iterator[Database]:
    """PostgreSQL ends transactions that stand still for half a second; it is a minute where this runs for real."""
    if url.startswith("postgresql"):
        url += f"&options=-c%20idle_in_transaction_session_timeout%3D{_IDLE_SECONDS * 1000:.0f}"
    found = Database(url)
    yield found
    found.close()


def test_somebody_may_stall_in_the_midst_of_a_page(impatient: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PAGE", 2)
    ids = [released(impatient, letter, at=MARCH + day * DAY) for day, letter in enumerate("abcde")]
    export = provenance.every(impatient, ReleasesWanted())
    found = [next(export).release.build_id]
    time.sleep(2 * _IDLE_SECONDS)
    found.extend(one.release.build_id for one in export)
    assert found == ids[::-1]


@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_pages_that_are_just_full_and_none(impatient: Database, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PAGE", 2)
    ids = [released(impatient, letter, at=MARCH) for letter in "abcd"[:number]]
    found = [one.release.build_id for one in provenance.every(impatient, ReleasesWanted())]
    assert found == sorted(ids, reverse=True), "of the same moment by their ids"
