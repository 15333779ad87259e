"""Locks through the API: asked for alone, read from builds, given with builds, insisted on or left aside."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from builder.api.bodies import MAX_BODY
from builder.pipeline.evidence import kept
from builder.planning.agreement import requested
from builder.planning.lock import Lock
from builder.planning.lockfile import format_lock, lock_data, lock_from_data
from builder.recipes.catalogue import Catalogue
from builder.settings import Settings
from builder.store import builds
from builder.store.database import Database
from builder.store.schema import Build, OutboxRow
from builder.store.states import RESOLVE
from tests.unit.api import RECIPE, problem, submit
from tests.unit.evidence import digest, whole_evidence
from tests.unit.evidence import lock as other_lock
from tests.unit.locks import lock

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


@pytest.fixture
def own(settings: Settings) -> Lock:
    """A lock that belongs to the recipe `web`."""
    recipe = Catalogue(settings.recipes_directory).get("web").recipe
    return lock(requested=requested(recipe), packages=(), files=())


@pytest.fixture
def whole(client: TestClient) -> dict[str, Any]:
    """The recipe `web` as the service has it, to be sent whole."""
    data: dict[str, Any] = client.get("/v1/recipes/web").json()
    return data


@pytest.fixture
def mine(whole: dict[str, Any]) -> dict[str, Any]:
    """The same with a repository of its own, which is no recipe of the service."""
    return {**whole, "spec": {**whole["spec"], "publish": {"repository": "team/web"}}}


def beside(settings: Settings, text: str) -> None:
    (settings.recipes_directory / "web.lock.json").write_text(text)


def ask(client: TestClient, recipe: str | dict[str, Any] = "web", **members: Any) -> dict[str, Any]:
    answer = client.post("/v1/builds", json={"recipe": recipe, **members})
    assert answer.status_code == 202, answer.text
    view: dict[str, Any] = answer.json()
    return view


def count(store: Database) -> int:
    with store.read() as session:
        return session.scalar(select(func.count()).select_from(Build)) or 0


class TestAskingForALock:
    def test_by_the_name_of_a_recipe(self, client: TestClient, store: Database) -> None:
        answer = client.post("/v1/locks", json={"recipe": "web"})
        assert answer.status_code == 202
        view = answer.json()
        assert answer.headers["Location"] == f"/v1/builds/{view['id']}"
        assert (view["purpose"], view["state"], view["locked"], view["requester"]) == ("lock", "queued", False, "ci")
        with store.read() as session:
            assert session.scalars(select(OutboxRow.queue)).all() == ["resolve"]

    @pytest.mark.parametrize("kind", ["application/yaml", "text/yaml", "application/json"])
    def test_of_a_recipe_in_the_request(self, client: TestClient, kind: str) -> None:
        data = client.get("/v1/recipes/web").json()
        data["spec"]["packages"] = ["tini"]  # one that somebody edits: its repository is no hindrance
        content = json.dumps({"recipe": data} if kind == "application/json" else data)
        answer = client.post("/v1/locks", content=content, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["purpose"]) == (202, "lock")

    def test_on_a_base_without_a_release_waits_for_it(self, client: TestClient, settings: Settings) -> None:
        text = RECIPE.replace("NAME", "app").replace("debian: {suite: trixie}", "recipe: web")
        (settings.recipes_directory / "app.yaml").write_text(text)
        view = client.post("/v1/locks", json={"recipe": "app"}).json()
        assert view["state"] == "waiting"
        assert client.get(f"/v1/builds/{view['waitsFor']}").json()["purpose"] == "release"

    @pytest.mark.parametrize("member", [{"lock": {}}, {"lockUse": "update"}, {"force": True}])
    def test_with_what_only_a_build_can_be_asked(self, client: TestClient, member: dict[str, Any]) -> None:
        told = problem(client.post("/v1/locks", json={"recipe": "web", **member}), 422, "request-invalid")
        assert [fault.field for fault in told.errors] == list(member)

    def test_that_cannot_be(self, client: TestClient, anyone: TestClient, store: Database) -> None:
        problem(client.post("/v1/locks", json={"recipe": "wep"}), 404, "recipe-unknown")
        problem(client.post("/v1/locks", content=b" " * (MAX_BODY + 1)), 413, "body-too-large")
        problem(client.post("/v1/locks", content=b"", headers={"Content-Type": "text/plain"}), 415,
                "media-type-unsupported")  # fmt: skip
        problem(client.post("/v1/locks", json={"recipe": {"kind": "Imag"}}), 422, "recipe-invalid")
        del anyone.headers["Authorization"]
        problem(anyone.post("/v1/locks", json={"recipe": "web"}), 401, "not-authenticated")
        assert count(store) == 0


class TestTheLockOfABuild:
    def read(self, client: TestClient, build_id: str) -> Lock:
        answer = client.get(f"/v1/builds/{build_id}/lock")
        assert answer.status_code == 200, answer.text
        return lock_from_data(answer.json())

    def test_is_not_there_before_anything_was_resolved(self, client: TestClient, store: Database) -> None:
        told = problem(client.get(f"/v1/builds/{submit(store)}/lock"), 409, "lock-unavailable")
        assert "is queued and has resolved nothing" in told.detail
        assert told.hint == "follow it to its end"

    def test_is_what_was_given(self, client: TestClient, mine: dict[str, Any], own: Lock) -> None:
        assert self.read(client, ask(client, mine, lock=lock_data(own))["id"]) == own

    def test_is_what_lay_beside_the_recipe(self, client: TestClient, settings: Settings, own: Lock) -> None:
        beside(settings, format_lock(own))
        assert self.read(client, ask(client)["id"]) == own

    def test_is_what_was_resolved_for_the_image(self, client: TestClient, store: Database) -> None:
        build_id = submit(store)
        with store.write() as session:
            builds.get(session, build_id).evidence = whole_evidence()
        assert self.read(client, build_id) == other_lock()

    def test_is_what_was_resolved_alone_and_can_be_given_or_laid_beside_as_it_is(
        self, client: TestClient, store: Database, settings: Settings, mine: dict[str, Any], own: Lock
    ) -> None:
        build_id = client.post("/v1/locks", json={"recipe": "web"}).json()["id"]
        problem(client.get(f"/v1/builds/{build_id}/lock"), 409, "lock-unavailable")
        with store.write() as session:
            held = builds.claim(session, build_id, RESOLVE, "w", 60)
            assert held
            builds.complete(session, held, lock=kept(own))
        view = client.get(f"/v1/builds/{build_id}").json()
        assert (view["state"], view["result"]["digest"]) == ("locked", None)
        assert self.read(client, build_id) == own
        told = client.get(f"/v1/builds/{build_id}/lock")
        assert ask(client, mine, lock=told.json())["locked"] is True
        beside(settings, told.text)
        assert ask(client, lockUse="require")["locked"] is True

    def test_of_a_build_that_is_none(self, client: TestClient) -> None:
        problem(client.get(f"/v1/builds/{'0' * 26}/lock"), 404, "build-unknown")

    def test_is_for_callers_with_a_key(self, anyone: TestClient, store: Database) -> None:
        problem(anyone.get(f"/v1/builds/{submit(store)}/lock"), 401, "not-authenticated")


class TestBuilding:
    def test_uses_the_lock_beside_the_recipe_if_there_is_one(
        self, client: TestClient, settings: Settings, own: Lock, store: Database
    ) -> None:
        assert ask(client)["locked"] is False
        assert ask(client, lockUse="prefer")["locked"] is False
        beside(settings, format_lock(own))
        for members in ({}, {"lockUse": "prefer"}, {"lockUse": "require"}):
            view = ask(client, **members)
            assert view["locked"] is True
            with store.read() as session:
                assert builds.get(session, view["id"]).lock == own.canonical().decode()

    def test_a_whole_recipe_uses_the_lock_in_the_request(
        self, client: TestClient, settings: Settings, mine: dict[str, Any], own: Lock
    ) -> None:
        beside(settings, format_lock(own))
        given = own.model_copy(update={"epoch": 5})
        view = ask(client, mine, lock=lock_data(given), lockUse="require")
        assert client.get(f"/v1/builds/{view['id']}/lock").json() == lock_data(given)

    def test_a_recipe_by_its_name_takes_no_lock_from_a_request_not_even_its_own(
        self, client: TestClient, settings: Settings, own: Lock, store: Database
    ) -> None:
        beside(settings, format_lock(own))
        for given in (own, own.model_copy(update={"epoch": 5})):
            answer = client.post("/v1/builds", json={"recipe": "web", "lock": lock_data(given)})
            told = problem(answer, 422, "request-invalid")
            assert "this recipe has its own lock" in told.detail
            assert "send the whole recipe" in (told.hint or "")
        assert count(store) == 0

    def test_where_the_service_publishes_its_own_recipe_another_lock_is_refused(
        self, client: TestClient, settings: Settings, whole: dict[str, Any], own: Lock, store: Database
    ) -> None:
        other = lock_data(own.model_copy(update={"epoch": 5}))
        problem(client.post("/v1/builds", json={"recipe": whole, "lock": other}), 403, "repository-reserved")
        beside(settings, format_lock(own))
        problem(client.post("/v1/builds", json={"recipe": whole, "lock": other}), 403, "repository-reserved")
        assert count(store) == 0
        assert ask(client, whole, lock=lock_data(own))["locked"] is True
        assert ask(client, whole)["locked"] is False

    def test_notes_whether_the_lock_came_with_the_request(
        self, client: TestClient, settings: Settings, mine: dict[str, Any], own: Lock, store: Database
    ) -> None:
        given = ask(client, mine, lock=lock_data(own))
        none = ask(client, mine)
        beside(settings, format_lock(own))
        laid = ask(client)
        with store.read() as session:
            options = [builds.get(session, view["id"]).options for view in (given, none, laid)]
        assert [one.get("lock_from_request") for one in options] == [True, None, None]

    def test_resolves_anew_where_that_is_asked_for(self, client: TestClient, settings: Settings, own: Lock) -> None:
        beside(settings, format_lock(own))
        assert ask(client, lockUse="update")["locked"] is False

    @pytest.mark.parametrize("named", [True, False])
    def test_without_a_lock_where_one_is_required_is_refused(
        self, client: TestClient, store: Database, named: bool
    ) -> None:
        recipe = "web" if named else client.get("/v1/recipes/web").json()
        answer = client.post("/v1/builds", json={"recipe": recipe, "lockUse": "require"})
        told = problem(answer, 409, "lock-missing")
        assert "web has no lock" in told.detail
        assert "goldsmith recipe lock" in (told.hint or "")
        assert count(store) == 0

    def test_with_a_lock_and_without_it_at_once_is_refused(
        self, client: TestClient, mine: dict[str, Any], own: Lock
    ) -> None:
        answer = client.post("/v1/builds", json={"recipe": mine, "lock": lock_data(own), "lockUse": "update"})
        assert "leave one of the two out" in (problem(answer, 422, "request-invalid").hint or "")

    def test_with_a_lock_that_is_stale_is_refused_by_field(
        self, client: TestClient, mine: dict[str, Any], own: Lock, store: Database
    ) -> None:
        asked = own.requested.model_copy(update={"packages": ("tini",)})
        stale = lock_data(own.model_copy(update={"requested": asked}))
        told = problem(client.post("/v1/builds", json={"recipe": mine, "lock": stale}), 409, "lock-stale")
        assert [fault.field for fault in told.errors] == ["spec.packages"]
        assert "--update" in (told.hint or "")
        assert count(store) == 0

    def test_with_a_stale_lock_beside_the_recipe_is_refused_until_it_is_renewed_or_left_aside(
        self, client: TestClient, settings: Settings, own: Lock
    ) -> None:
        beside(settings, format_lock(own))
        with (settings.recipes_directory / "web.yaml").open("a") as file:
            file.write("  packages: [tini]\n")
        told = problem(client.post("/v1/builds", json={"recipe": "web"}), 409, "lock-stale")
        assert [fault.field for fault in told.errors] == ["spec.packages[0]"]
        assert ask(client, lockUse="update")["locked"] is False

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"epoch": -1}, "epoch"),
            ({"epok": 1}, "epok"),
            ({"base": {"suite": "--setup-hook=x", "architecture": "amd64"}}, "base.suite"),
            ({"packages": [{"name": "-x"}]}, "packages.0.name"),
            ({"epoch": 10**400}, "epoch"),
            ({"packages": [{"name": "a", "version": "1", "architecture": "amd64", "size": 2**60,
                            "sha256": "0" * 64}]}, "packages.0.size"),
        ],
    )  # fmt: skip
    def test_with_a_lock_that_is_none_is_refused_by_field(
        self, client: TestClient, mine: dict[str, Any], own: Lock, change: dict[str, Any], field: str
    ) -> None:
        answer = client.post("/v1/builds", json={"recipe": mine, "lock": {**lock_data(own), **change}})
        assert field in [fault.field for fault in problem(answer, 422, "lock-invalid").errors]

    def test_with_a_number_longer_than_any_is_refused(self, client: TestClient, mine: dict[str, Any]) -> None:
        content = b'{"recipe": ' + json.dumps(mine).encode() + b', "lock": {"epoch": ' + b"7" * 5000 + b"}}"
        answer = client.post("/v1/builds", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422

    def test_with_a_broken_lock_beside_the_recipe_names_the_file(self, client: TestClient, settings: Settings) -> None:
        beside(settings, "<<<<<<< HEAD\n{}\n")
        told = problem(client.post("/v1/builds", json={"recipe": "web"}), 422, "lock-invalid")
        assert told.detail.startswith("web.lock.json: line 1, column 1: not JSON")
        assert ask(client, lockUse="update")["locked"] is False

    def test_with_the_lock_of_another_recipe_is_refused_however_valid_that_is(
        self, client: TestClient, mine: dict[str, Any]
    ) -> None:
        answer = client.post("/v1/builds", json={"recipe": mine, "lock": lock_data(other_lock(digest("9"), "debian"))})
        told = problem(answer, 409, "lock-stale")
        assert told.errors[0].field == "spec.base"
