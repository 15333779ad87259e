"""What the API answers when something it stands on is away, full or too busy: a problem, never a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event

from builder.recipes.catalogue import Catalogue
from builder.store.database import Database
from tests.unit.api import problem, submit

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


@pytest.fixture
def no_room(store: Database, client: TestClient) -> Iterator[None]:
    """SQLite may not grow by a page, on any connection."""
    submit(store)

    def limit(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count={pages}")
        cursor.close()

    event.listen(store._engine, "connect", limit)
    store._engine.dispose()
    yield
    event.remove(store._engine, "connect", limit)
    store._engine.dispose()


def test_a_database_whose_disk_is_full_takes_nothing_in_and_says_so(client: TestClient, no_room: None) -> None:
    for _ in range(40):
        answer = client.post("/v1/builds", json={"recipe": "web", "force": True})
        if answer.status_code != 202:
            break
    found = problem(answer, 507, "database-full")
    assert "disk" in found.detail
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_is_a_problem_of_its_own(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(Catalogue, "get", full)
    found = problem(client.post("/v1/builds", json={"recipe": "web"}), 507, "storage-full")
    assert found.retryable


def test_another_failure_of_the_system_is_not_told_as_a_full_disk(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "hunter2")

    monkeypatch.setattr(Catalogue, "get", broken)
    answer = client.post("/v1/builds", json={"recipe": "web"})
    assert "hunter2" not in answer.text
    problem(answer, 500, "internal-error")


def test_a_full_queue_refuses_more_and_keeps_what_waits(
    app: FastAPI, client: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = app.state.services
    monkeypatch.setattr(services, "settings", services.settings.model_copy(update={"waiting_builds": 2}))
    asked = [client.post("/v1/builds", json={"recipe": "web", "force": True}) for _ in range(3)]
    assert [one.status_code for one in asked] == [202, 202, 503]
    found = problem(asked[2], 503, "queue-full")
    assert "2" in found.detail
    assert len(client.get("/v1/builds").json()["builds"]) == 2
