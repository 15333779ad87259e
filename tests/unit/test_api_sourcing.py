"""Recipes filled in by a request, and recipes of a commit, from the request to the build's record."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from builder.api.turns import Turns
from builder.pipeline.evidence import Plan, PlannedPackage, kept
from builder.pipeline.provenance import provenance
from builder.pipeline.retrying import RecipeChanged
from builder.recipes.catalogue import written_recipe_file
from builder.recipes.git import GitSources
from builder.recipes.model import Recipe
from builder.recipes.reading import recipe_digest
from builder.settings import Settings
from builder.store import builds, keys
from builder.store.database import Database
from builder.store.schema import Build
from builder.store.scopes import Scope
from builder.store.states import PLAN, RESOLVE
from tests.unit.api import RECIPE, end, problem
from tests.unit.evidence import digest, whole_evidence
from tests.unit.git_server import GitServer, git, git_server

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

OPEN = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: open, version: "${parameters.version}"}
parameters:
  version: {default: "1.26", pattern: "[0-9.]+", description: of nginx}
  port: {type: integer, default: 8080, minimum: 1024}
spec:
  base: {debian: {suite: trixie}}
  packages: ["nginx=${parameters.version}"]
  files: [{path: /etc/motd, source: motd}]
  tests: [{port: "${parameters.port}"}]
  publish: {repository: golden/open, tags: ["${parameters.version}"]}
"""
# A file beside a recipe is text, whatever it looks like.
MOTD = "version ${parameters.version}, and $${parameters.port}\n"


@pytest.fixture
def recipes(settings: Settings) -> Path:
    (settings.recipes_directory / "open.yaml").write_text(OPEN)
    (settings.recipes_directory / "motd").write_text(MOTD)
    return settings.recipes_directory


def stored(store: Database, build_id: str) -> tuple[Build, Recipe]:
    with store.read() as session:
        build = builds.get(session, build_id)
        return build, Recipe.model_validate_json(build.recipe)


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/builds", json=body)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


class TestParameters:
    def test_fill_a_recipe_of_the_service(self, client: TestClient, store: Database, recipes: Path) -> None:
        default = ask(client, recipe="open")
        assert default["parameters"] == {"version": "1.26", "port": 8080}
        other = ask(client, recipe="open", parameters={"version": "1.27", "port": "9000"})
        assert other["parameters"] == {"version": "1.27", "port": 9000}
        _, recipe = stored(store, other["id"])
        assert recipe.spec.packages == ["nginx=1.27"]
        assert recipe.spec.publish.tags == ["1.27"]
        assert recipe.spec.files[0].content == MOTD
        # What decides the image decides the digest, which the key of a build is made of.
        assert other["recipeDigest"] == recipe_digest(recipe) != default["recipeDigest"]
        assert client.get(f"/v1/builds/{other['id']}").json()["parameters"] == other["parameters"]

    def test_a_recipe_sent_as_it_is_written_comes_to_the_same(
        self, client: TestClient, store: Database, recipes: Path
    ) -> None:
        written = written_recipe_file(recipes / "open.yaml", {})
        assert written["parameters"]["port"]["minimum"] == 1024
        assert client.get("/v1/recipes/open").json() == written
        # Else it could not be published there.
        mine, listed = ask(client, recipe=written), ask(client, recipe="open")
        assert (mine["recipeDigest"], mine["parameters"]) == (listed["recipeDigest"], listed["parameters"])
        assert stored(store, mine["id"])[1].spec.files[0].content == MOTD

    def test_are_listed_with_the_recipe(self, client: TestClient, recipes: Path) -> None:
        listed = {one["name"]: one for one in client.get("/v1/recipes").json()["recipes"]}
        assert listed["web"]["parameters"] == {}
        assert listed["open"]["parameters"]["version"] == {
            "type": "string", "description": "of nginx", "default": "1.26", "pattern": "[0-9.]+", "allowed": [],
            "minimum": None, "maximum": None,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("given", "field", "message"),
        [
            ({"version": "1; rm -rf /"}, "parameters.version", "does not match"),
            ({"version": 1}, "parameters.version", "must be a text"),
            ({"port": 80}, "parameters.port", "at least 1024"),
            ({"port": "many"}, "parameters.port", "must be a whole number"),
            ({"prot": 8080}, "parameters.prot", "unknown parameter"),
        ],
    )
    def test_a_wrong_one_is_named(
        self, client: TestClient, recipes: Path, given: dict[str, Any], field: str, message: str
    ) -> None:
        for path in ("/v1/builds", "/v1/locks"):
            answer = client.post(path, json={"recipe": "open", "parameters": given})
            told = problem(answer, 422, "parameter-invalid")
            assert [one.field for one in told.errors] == [field]
            assert message in told.errors[0].message

    def test_what_breaks_the_recipes_own_rules_names_field_and_parameter(
        self, client: TestClient, recipes: Path
    ) -> None:
        answer = client.post("/v1/builds", json={"recipe": "open", "parameters": {"port": 70000}})
        told = problem(answer, 422, "recipe-invalid")
        assert told.errors[0].field == "spec.tests[0].port"
        assert "the parameter 'port' filled in" in told.errors[0].message

    def test_a_retry_has_the_same(self, client: TestClient, store: Database, recipes: Path) -> None:
        old = ask(client, recipe="open", parameters={"version": "1.27"})
        end(store, old["id"])
        new = client.post(f"/v1/builds/{old['id']}/retry").json()
        assert (new["parameters"], new["recipeDigest"]) == (old["parameters"], old["recipeDigest"])
        (recipes / "open.yaml").write_text(OPEN.replace("minimum: 1024", "minimum: 1024, maximum: 9000"))
        assert client.post(f"/v1/builds/{old['id']}/retry").status_code == 202  # the image would be the same
        (recipes / "open.yaml").write_text(OPEN.replace("trixie", "bookworm"))
        problem(client.post(f"/v1/builds/{old['id']}/retry"), 409, RecipeChanged.slug)

    def test_cannot_take_the_place_of_a_recipe_of_the_service(self, client: TestClient, recipes: Path) -> None:
        other = written_recipe_file(recipes / "open.yaml", {})
        problem(client.post("/v1/builds", json={"recipe": other, "parameters": {"port": 9000}}), 403,
                "repository-reserved")  # fmt: skip


class TestCommits:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[GitServer]:
        with git_server(tmp_path / "git") as found:
            mine = OPEN.replace("open", "mine")
            found.repository("acme/images", {"images/mine.yaml": mine, "images/motd": MOTD})
            yield found

    @pytest.fixture
    def settings(self, settings: Settings, server: GitServer) -> Settings:
        return settings.model_copy(update={"git_hosts": (server.host,), "git_private": True})

    def place(self, server: GitServer, **more: Any) -> dict[str, Any]:
        return {"repository": f"{server.url}/acme/images", "ref": "main", "path": "images/mine.yaml", **more}

    def test_are_built_and_recorded(self, client: TestClient, store: Database, server: GitServer) -> None:
        made = ask(client, **self.place(server, parameters={"version": "1.27"}))
        commit = git(server.root / "acme/images", "rev-parse", "HEAD")
        source = {**self.place(server), "commit": commit}
        assert made["source"] == source
        assert (made["recipe"], made["parameters"]["version"], made["locked"]) == ("mine", "1.27", False)
        build, recipe = stored(store, made["id"])
        assert (build.origin, recipe.spec.files[0].content) == ("git", MOTD)
        build.evidence = whole_evidence()
        told = provenance(build, [], "https://b.example", digest("c")).build_definition
        assert told.external_parameters["source"] == source
        assert told.external_parameters["parameters"] == {"version": "1.27", "port": 8080}
        assert told.external_parameters["recipe"] == json.loads(build.recipe)
        named = next(one for one in told.resolved_dependencies if one.name == "source")
        assert (named.uri, named.digest) == (f"git+{server.url}/acme/images@main", {"gitCommit": commit})

    def test_a_slow_host_stops_its_own_requests_alone(
        self, client: TestClient, app: FastAPI, server: GitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app.state.git_turns = Turns(at_once=1, waiting=1, each=9)
        begun, go = threading.Semaphore(0), threading.Event()
        real = GitSources._fetched

        def slow(*arguments: Any) -> Any:
            begun.release()
            assert go.wait(20)
            return real(*arguments)

        monkeypatch.setattr(GitSources, "_fetched", slow)
        with ThreadPoolExecutor(3) as pool:
            held = [pool.submit(client.post, "/v1/builds", json=self.place(server)) for _ in range(2)]
            assert begun.acquire(timeout=20)
            deadline = time.monotonic() + 20
            while app.state.git_turns._callers.total() < 2:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for path in ("/v1/builds", "/v1/locks"):
                refused = client.post(path, json=self.place(server))
                problem(refused, 503, "too-many-at-once")
                assert refused.headers["Retry-After"]
            assert client.post("/v1/builds", json={"recipe": "web"}).status_code == 202
            go.set()
            assert [one.result().status_code for one in held] == [202, 202]

    def test_a_retry_is_of_the_same_commit(self, client: TestClient, store: Database, server: GitServer) -> None:
        old = ask(client, **self.place(server))
        end(store, old["id"])
        server.commit(server.root / "acme/images", {"images/motd": "new\n"})
        new = client.post(f"/v1/builds/{old['id']}/retry").json()
        assert (new["source"], new["recipeDigest"]) == (old["source"], old["recipeDigest"])
        assert ask(client, **self.place(server))["recipeDigest"] != old["recipeDigest"]

    def test_the_same_request_again_is_answered_though_the_branch_has_moved(
        self, client: TestClient, server: GitServer
    ) -> None:
        key = {"Idempotency-Key": "one"}
        first = client.post("/v1/builds", json=self.place(server), headers=key).json()
        server.commit(server.root / "acme/images", {"images/motd": "new\n"})
        again = client.post("/v1/builds", json=self.place(server), headers=key)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json() == first

    def test_a_lock_can_be_asked_for(self, client: TestClient, server: GitServer) -> None:
        made = client.post("/v1/locks", json=self.place(server)).json()
        assert (made["purpose"], made["source"]["path"]) == ("lock", "images/mine.yaml")

    def test_the_lock_beside_it_is_read_and_must_fit(self, client: TestClient, server: GitServer) -> None:
        server.commit(server.root / "acme/images", {"images/mine.lock.json": "{}"})
        problem(client.post("/v1/builds", json=self.place(server)), 422, "lock-invalid")
        ask(client, **self.place(server), lockUse="update")

    def test_without_one_building_from_a_lock_alone_is_refused(self, client: TestClient, server: GitServer) -> None:
        problem(client.post("/v1/builds", json=self.place(server, lockUse="require")), 409, "lock-missing")

    def test_who_may_build_some_recipes_only_may_bring_no_others(
        self, client: TestClient, store: Database, server: GitServer
    ) -> None:
        with store.write() as session:
            key = keys.create_key(session, "web", [Scope.BUILDS_WRITE], recipes=["web"])
        answer = client.post("/v1/builds", json=self.place(server), headers={"Authorization": f"Bearer {key}"})
        problem(answer, 403, "recipe-not-allowed")
        failed = ask(client, **self.place(server))["id"]
        end(store, failed)
        again = client.post(f"/v1/builds/{failed}/retry", headers={"Authorization": f"Bearer {key}"})
        problem(again, 403, "recipe-not-allowed")

    def test_a_recipe_of_the_service_keeps_its_place(self, client: TestClient, server: GitServer) -> None:
        server.commit(
            server.root / "acme/images", {"images/mine.yaml": RECIPE.replace("NAME", "web") + "  packages: [tini]\n"}
        )
        problem(client.post("/v1/builds", json=self.place(server)), 403, "repository-reserved")

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"ref": "none"}, "ref"),
            ({"path": "none.yaml"}, "path"),
            ({"repository": "https://a.example/x"}, "repository"),
        ],
    )
    def test_what_is_not_there_is_named(
        self, client: TestClient, server: GitServer, change: dict[str, str], field: str
    ) -> None:
        told = problem(client.post("/v1/builds", json=self.place(server) | change), 422, "git-source-refused")
        assert [one.field for one in told.errors] == [field]

    @pytest.mark.parametrize(
        "body",
        [
            {}, {"recipe": "web", "repository": "https://a.example/x", "path": "a.yaml"}, {"path": "a.yaml"},
            {"repository": "https://a.example/x"}, {"recipe": "web", "ref": "main"},
        ],
    )  # fmt: skip
    def test_one_place_is_named_and_wholly(self, client: TestClient, body: dict[str, Any]) -> None:
        problem(client.post("/v1/builds", json=body), 422, "request-invalid")


def test_no_repository_is_asked_unless_the_operator_allows_it(client: TestClient) -> None:
    place = {"repository": "https://git.example/acme/images", "path": "web.yaml"}
    told = problem(client.post("/v1/builds", json=place), 422, "git-source-refused")
    assert "GOLDSMITH_GIT_HOSTS" in str(told.errors[0])


class TestDryRuns:
    def test_are_taken_in_and_build_nothing(self, client: TestClient, store: Database, settings: Settings) -> None:
        child = RECIPE.replace("NAME", "child").replace("{debian: {suite: trixie}}", "{recipe: web}")
        (settings.recipes_directory / "child.yaml").write_text(child)
        grandchild = RECIPE.replace("NAME", "grandchild").replace("{debian: {suite: trixie}}", "{recipe: child}")
        (settings.recipes_directory / "grandchild.yaml").write_text(grandchild)
        made = ask(client, recipe="grandchild", dryRun=True)
        assert (made["purpose"], made["state"], made["waitsFor"]) == ("plan", "queued", None)
        assert len(client.get("/v1/builds").json()["builds"]) == 1
        with store.read() as session:
            assert builds.get(session, made["id"]).options["builds_first"] == ["web", "child"]

    def test_end_with_a_plan(self, client: TestClient, store: Database) -> None:
        made = ask(client, recipe="web", dryRun=True)
        package = PlannedPackage(name="tini", version="1", architecture="amd64", sha256="5c" * 32, size=7,
                                 bootstrap=False, source="archive")  # fmt: skip
        plan = Plan(hermetic=True, base="trixie", packages=(package,), fetch_bytes=7)
        with store.write() as session:
            claim = builds.claim(session, made["id"], PLAN, "w", 60)
            assert claim is not None
            assert builds.claim(session, made["id"], RESOLVE, "w", 60) is None
            builds.complete(session, claim, plan=kept(plan))
        ended = client.get(f"/v1/builds/{made['id']}").json()
        assert ended["state"] == "planned"
        assert (ended["plan"]["base"], ended["plan"]["fetchBytes"]) == ("trixie", 7)
        assert ended["plan"]["packages"][0]["source"] == "archive"
