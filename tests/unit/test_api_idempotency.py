"""A request with an Idempotency-Key is carried out once, however often it is sent. On SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from builder.api.builds import take_in
from builder.errors import Unavailable
from builder.pipeline.submission import submit
from builder.store import keys
from builder.store.database import Database
from builder.store.schema import Build
from tests.unit.api import problem

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


@pytest.fixture
def database_url(url: str) -> str:
    return url


def ask(client: TestClient, path: str = "/v1/builds", headers: dict[str, str] = KEY, **body: Any) -> Response:
    return client.post(path, json=body or {"recipe": "web"}, headers=headers)


def count(store: Database) -> int:
    with store.read() as session:
        return session.query(Build).count()


@pytest.mark.parametrize("path", ["/v1/builds", "/v1/locks"])
def test_the_same_request_gets_the_same_answer_again(client: TestClient, store: Database, path: str) -> None:
    first, second = ask(client, path), ask(client, path)
    assert first.status_code == 202
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["Location"] == first.headers["Location"] == f"/v1/builds/{first.json()['id']}"
    assert count(store) == 1


def test_a_key_means_the_same_in_quotes(client: TestClient, store: Database) -> None:
    quoted = {"Idempotency-Key": f'"{KEY["Idempotency-Key"]}"'}
    assert ask(client).content == ask(client, headers=quoted).content
    assert count(store) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/builds", {"recipe": "python"}), ("/v1/locks", {}), ("/v1/builds?x=1", {})],
)
def test_another_request_with_the_key_is_refused(
    client: TestClient, store: Database, path: str, body: dict[str, Any]
) -> None:
    ask(client)
    told = problem(ask(client, path, **body), 422, "idempotency-key-reused")
    assert "new key" in (told.hint or "")
    assert count(store) == 1


def test_another_caller_has_keys_of_its_own(client: TestClient, store: Database) -> None:
    first = ask(client)
    with store.write() as session:
        other = keys.create_key(session, "other")
    second = ask(client, headers={**KEY, "Authorization": f"Bearer {other}"})
    assert second.json()["id"] != first.json()["id"]
    assert second.json()["requester"] == "other"


def test_without_a_key_each_request_counts(client: TestClient, store: Database) -> None:
    ask(client, headers={})
    ask(client, headers={})
    assert count(store) == 2


def test_many_at_once_make_one_build(client: TestClient, store: Database) -> None:
    barrier = threading.Barrier(20)

    def one(_: int) -> Response:
        barrier.wait()
        return ask(client)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(20)))
    made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(made) == count(store) == 1
    for answer in answers:
        if answer.status_code != 202:
            problem(answer, 409, "request-under-way")
    assert ask(client).json()["id"] in made


def test_one_that_is_under_way_is_told_to_wait(
    client: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        began.set()
        assert go_on.wait(30)
        return take_in(*arguments)

    monkeypatch.setattr("builder.api.builds.take_in", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, client)
        assert began.wait(30)
        problem(ask(client), 409, "request-under-way")
        problem(ask(client, recipe="python"), 422, "idempotency-key-reused")
        go_on.set()
        assert first.result().status_code == 202
    assert ask(client).content == first.result().content
    assert count(store) == 1


class Away(Unavailable):
    slug = "away"
    title = "Away"


@pytest.mark.parametrize(("broken", "status"), [(Away("away"), 503), (RuntimeError("oops"), 500)])
def test_a_failure_of_ours_is_not_remembered_and_leaves_nothing(
    client: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch, broken: Exception, status: int
) -> None:
    def fail(*arguments: Any) -> Build:
        submit(*arguments)
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr("builder.api.builds.submit", fail)
        assert ask(client).status_code == status
    assert count(store) == 0
    answer = ask(client)
    assert (answer.status_code, "Idempotency-Replayed" in answer.headers) == (202, False)


def test_an_answer_that_cannot_be_kept_takes_the_build_with_it(
    client: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("builder.store.idempotency.remember", lambda *_: 1 / 0)
        assert ask(client).status_code == 500
    assert count(store) == 0
    assert ask(client).status_code == 202


def test_a_refusal_made_nothing_and_leaves_the_key_free(client: TestClient) -> None:
    problem(ask(client, recipe="wbe"), 404, "recipe-unknown")
    assert ask(client, recipe="web").status_code == 202


def test_a_caller_who_may_not_learns_nothing_by_a_key(client: TestClient, store: Database) -> None:
    ask(client)
    with store.write() as session:
        reader = keys.create_key(session, "ci", [])
    problem(ask(client, headers={**KEY, "Authorization": f"Bearer {reader}"}), 403, "scope-missing")


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "a b", "é", '"', '"a', 'a"b', "a\\b", "\x7f"])
def test_a_key_that_is_none_is_told(client: TestClient, store: Database, key: str) -> None:
    told = problem(ask(client, headers={"Idempotency-Key": key.encode()}), 422, "request-invalid")  # type: ignore[dict-item]
    assert told.errors[0].field == "header.Idempotency-Key"
    assert count(store) == 0


def test_two_keys_are_none(client: TestClient) -> None:
    answer = client.post(
        "/v1/builds", json={"recipe": "web"}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )
    told = problem(answer, 422, "request-invalid")
    assert "2 times" in told.detail


def test_rounds_of_scans_and_exceptions_take_keys_too(app: FastAPI, client: TestClient) -> None:
    first, second = client.post("/v1/rescans", headers=KEY), client.post("/v1/rescans", headers=KEY)
    assert (first.status_code, first.content) == (202, second.content)
    assert second.headers["Idempotency-Replayed"] == "true"
    operations = app.openapi()["paths"]
    for path in ("/v1/builds", "/v1/locks", "/v1/images/{digest}/rebuilds", "/v1/rescans", "/v1/comparisons",
                 "/v1/exceptions", "/v1/exceptions/imports"):  # fmt: skip
        named = [one["name"] for one in operations[path]["post"]["parameters"]]
        assert "Idempotency-Key" in named, path
        assert "409" in operations[path]["post"]["responses"], path
