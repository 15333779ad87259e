"""A build that came to nothing is asked for again as it was, and no old recipe gets past that way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from builder.settings import Settings
from builder.store import builds, keys
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.scopes import Scope
from builder.store.states import BUILD, Purpose, State
from tests.unit.api import RECIPE, end, problem
from tests.unit.evidence import digest

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
MINE = {
    "apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "mine"},
    "spec": {"base": {"debian": {"suite": "trixie"}}, "publish": {"repository": "golden/mine"}},
}  # fmt: skip


def ask(client: TestClient, path: str = "/v1/builds", **body: Any) -> str:
    return str(client.post(path, json=body or {"recipe": "web"}).json()["id"])


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
@pytest.mark.parametrize("recipe", ["web", MINE])
def test_asks_for_the_same_again(client: TestClient, store: Database, state: State, recipe: Any) -> None:
    old = ask(client, recipe=recipe, force=True, priority="low")
    end(store, old, state)
    with store.write() as session:
        other = keys.create_key(session, "other", [Scope.BUILDS_WRITE])
    answer = client.post(f"/v1/builds/{old}/retry", headers={"Authorization": f"Bearer {other}"})
    assert answer.status_code == 202
    view = answer.json()
    assert answer.headers["Location"] == f"/v1/builds/{view['id']}"
    assert (view["retryOf"], view["requester"], view["state"], view["priority"]) == (old, "other", "queued", "low")
    with store.read() as session:
        before, after = builds.get(session, old), builds.get(session, view["id"])
        for name in ("recipe", "recipe_digest", "recipe_name", "origin", "lock", "options", "purpose"):
            assert getattr(before, name) == getattr(after, name), name
        assert before.state == state


def test_an_update_is_one_again(client: TestClient, store: Database, settings: Settings) -> None:
    old = ask(client, recipe="web", lockUse="update")
    end(store, old)
    new = client.post(f"/v1/builds/{old}/retry").json()["id"]
    with store.read() as session:
        assert builds.get(session, new).options["update"] is True


def test_of_a_lock_and_of_a_rebuild(client: TestClient, store: Database) -> None:
    lock = ask(client, "/v1/locks", recipe="web")
    with store.write() as session:
        rebuild = builds.submit(
            session,
            Submission("web", digest("1"), "{}", "release", "ci", purpose=Purpose.REBUILD, subject=digest("a"),
                       options={"repository": "golden/web", "offline": True}),
        ).id  # fmt: skip
    for old, purpose in ((lock, "lock"), (rebuild, "rebuild")):
        end(store, old)
        view = client.post(f"/v1/builds/{old}/retry").json()
        assert (view["purpose"], view["retryOf"]) == (purpose, old)
    with store.read() as session:
        assert builds.get(session, view["id"]).options == {"repository": "golden/web", "offline": True}


def test_of_an_upload_says_to_send_it_again(client: TestClient, store: Database) -> None:
    with store.write() as session:
        old = builds.submit(
            session,
            Submission("web", digest("1"), "{}", "release", "ci", purpose=Purpose.COMPARE, subject=digest("a"),
                       options={"subject": {"kind": "archive", "size": 5}}),
        ).id  # fmt: skip
    end(store, old)
    assert "send it again" in (problem(client.post(f"/v1/builds/{old}/retry"), 409, "build-not-retryable").hint or "")


def test_of_what_runs_or_was_released_is_refused(client: TestClient, store: Database) -> None:
    old = ask(client)
    problem(client.post(f"/v1/builds/{old}/retry"), 409, "build-not-retryable")
    with store.write() as session:
        assert builds.claim(session, old, BUILD, "w", 60)
    problem(client.post(f"/v1/builds/{old}/retry"), 409, "build-not-retryable")
    with store.write() as session:
        builds.get(session, old).state = State.RELEASED
    told = problem(client.post(f"/v1/builds/{old}/retry"), 409, "build-not-retryable")
    assert f"{old} is released" in told.detail


def test_of_what_there_is_not_is_unknown(client: TestClient) -> None:
    problem(client.post(f"/v1/builds/{'0' * 26}/retry"), 404, "build-unknown")


def test_is_no_way_to_publish_an_old_recipe_of_the_service(
    client: TestClient, store: Database, settings: Settings
) -> None:
    old = ask(client)
    end(store, old)
    file: Path = settings.recipes_directory / "web.yaml"
    file.write_text(RECIPE.replace("NAME", "web").replace("trixie", "bookworm"))
    told = problem(client.post(f"/v1/builds/{old}/retry"), 409, "recipe-changed")
    assert "as it is now" in (told.hint or "")


def test_twice_with_one_key_is_one(client: TestClient, store: Database) -> None:
    old = ask(client)
    end(store, old)
    first, second = (client.post(f"/v1/builds/{old}/retry", headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.content == second.content


class TestPriority:
    @pytest.fixture
    def builder(self, client: TestClient, store: Database) -> TestClient:
        with store.write() as session:
            client.headers["Authorization"] = f"Bearer {keys.create_key(session, 'ci', [Scope.BUILDS_WRITE])}"
        return client

    def test_is_normal_unless_said(self, builder: TestClient) -> None:
        for asked in (None, "normal", "low"):
            body = {"recipe": "web"} | ({"priority": asked} if asked else {})
            assert builder.post("/v1/builds", json=body).json()["priority"] == (asked or "normal")

    def test_that_is_high_takes_more_than_the_scope_to_build(self, builder: TestClient) -> None:
        told = problem(
            builder.post("/v1/builds", json={"recipe": "web", "priority": "high"}), 403, "priority-not-allowed"
        )
        assert "GOLDSMITH_HIGH_PRIORITY_CALLERS" in (told.hint or "")

    def test_that_is_high_is_for_administrators_and_is_not_inherited_by_a_retry(
        self, client: TestClient, store: Database
    ) -> None:
        old = ask(client, recipe="web", priority="high")
        assert client.get(f"/v1/builds/{old}").json()["priority"] == "high"
        end(store, old)
        assert client.post(f"/v1/builds/{old}/retry").json()["priority"] == "normal"

    def test_that_is_high_is_for_whom_the_operator_names(self, builder: TestClient, settings: Settings) -> None:
        builder.app.state.settings = settings.model_copy(update={"high_priority_callers": ("ci",)})  # type: ignore[attr-defined]
        answer = builder.post("/v1/builds", json={"recipe": "web", "priority": "high"})
        assert (answer.status_code, answer.json()["priority"]) == (202, "high")

    def test_that_is_none_is_told(self, builder: TestClient) -> None:
        told = problem(builder.post("/v1/builds", json={"recipe": "web", "priority": "urgent"}), 422, "request-invalid")
        assert told.errors[0].field == "priority"


def test_what_is_no_recipe_any_more_cannot_be_retried(client: TestClient, store: Database) -> None:
    with store.write() as session:
        old = builds.submit(session, Submission("web", digest("1"), "{}", "request", "ci")).id
    end(store, old)
    told = problem(client.post(f"/v1/builds/{old}/retry"), 409, "build-not-retryable")
    assert "not one of this version's" in told.detail
