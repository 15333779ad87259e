"""Whoever may build some recipes only, and whoever may only read: each route that changes something, asked for real."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import select

from builder.api.app import create_app
from builder.api.scopes import ROUTES
from builder.settings import Settings
from builder.store import builds, keys, webhooks
from builder.store.database import Database
from builder.store.schema import Base, Release
from builder.store.scopes import Scope
from builder.store.states import State
from builder.store.webhooks import Event
from tests.unit.api import RECIPE, end, problem
from tests.unit.evidence import digest, whole_evidence
from tests.unit.git_server import GitServer, git_server
from tests.unit.oidc_issuer import issuers_file, running_issuer

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

CHANGING = [
    f"{method.upper()} {path}"
    for path, operations in create_app(Settings(database_url="sqlite://")).openapi()["paths"].items()
    for method in operations
    if method != "get"
]
GOLDEN = {"web": digest("a"), "python": digest("b")}
# Of a recipe that is named web, in the place of another.
DISGUISED = digest("c")
# Who called, and when, is written down of everybody.
OF_CALLERS = {"audit", "api_keys"}


@dataclass(frozen=True)
class Ask:
    path: str
    body: dict[str, Any] | None = None
    text: str | None = None
    media_type: str = "application/yaml"


@dataclass(frozen=True)
class World:
    """A service with the recipes web and python; what it released, builds and is told of is of both."""

    client: TestClient
    store: Database
    git: GitServer
    callers: dict[str, str]

    def ask(self, caller: str, action: str, wanted: Ask) -> Response:
        headers = {"Authorization": f"Bearer {self.callers[caller]}"}
        if wanted.text is not None:
            headers["Content-Type"] = wanted.media_type
            return self.client.request(action.split()[0], wanted.path, content=wanted.text, headers=headers)
        return self.client.request(action.split()[0], wanted.path, json=wanted.body, headers=headers)

    def made(self, recipe: str | dict[str, Any], *, ended: bool) -> str:
        """A build of somebody who may all: under way, or failed."""
        asked = Ask("/v1/builds", {"recipe": recipe, "force": True})
        found = str(self.ask("whoever may all", "POST /v1/builds", asked).json()["id"])
        if ended:
            end(self.store, found)
        return found

    def rebuilt(self, golden: str, *, ended: bool) -> str:
        """A rebuild for somebody who may all: under way, or failed."""
        path = f"/v1/images/{golden}/rebuilds"
        found = str(self.ask("whoever may all", "POST /v1/images/{digest}/rebuilds", Ask(path, {})).json()["id"])
        if ended:
            end(self.store, found)
        return found

    def release(self) -> None:
        for name, golden in GOLDEN.items():
            self.released(name, golden, f"golden/{name}")
        self.released(sent("web", "team/python"), DISGUISED, "team/python")

    def released(self, recipe: str | dict[str, Any], golden: str, repository: str) -> None:
        build_id = self.made(recipe, ended=False)
        with self.store.write() as session:
            build = builds.get(session, build_id)
            build.evidence, build.state = whole_evidence(golden), State.RELEASED
            session.add(
                Release(
                    build_id=build_id, digest=golden, recipe_name=build.recipe_name, tags=[],
                    recipe_digest=build.recipe_digest, registry_host="127.0.0.1:1", repository=repository,
                    released_at=time.time(),
                )
            )  # fmt: skip

    def webhook(self) -> tuple[str, int]:
        """One, and the number of what it was sent."""
        with self.store.write() as session:
            made = webhooks.create(session, url="https://a.example", events=["build.*"], description="", created_by="x")
            session.flush()
            return made.id, webhooks.send(session, made, Event.WEBHOOK_TEST, {}).id

    def excepted(self, recipe: str | None) -> str:
        answer = self.ask("whoever may all", "POST /v1/exceptions", Ask("/v1/exceptions", risk(recipe)))
        return str(answer.json()["id"])

    def kept(self) -> dict[str, list[str]]:
        """Everything that the service knows, apart from who called."""
        with self.store.read() as session:
            return {
                table.name: sorted(map(repr, session.execute(select(table)).all()))
                for table in Base.metadata.sorted_tables
                if table.name not in OF_CALLERS
            }


def sent(name: str, repository: str | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": name},
        "spec": {"base": {"debian": {"suite": "trixie"}}, "publish": {"repository": repository or f"team/{name}"}},
    }  # fmt: skip


def risk(recipe: str | None, **more: Any) -> dict[str, Any]:
    expires = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    told = {"vulnerability": "CVE-2023-4911", "package": "libc6", "owner": "o", "reason": "r", "expires": expires}
    return {**told, **({"recipe": recipe} if recipe else {}), **more}


def supplied(recipe: str | None) -> dict[str, Any]:
    statement = {
        "vulnerability": {"name": "CVE-2023-4911"}, "products": [{"@id": "pkg:deb/debian/libc6"}],
        "status": "not_affected", "justification": "vulnerable_code_not_present",
    }  # fmt: skip
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://a.example/1", "author": "s",
        "timestamp": "2026-01-01T00:00:00Z", "version": 1, "statements": [statement],
    }  # fmt: skip
    told = risk(recipe)
    return {"document": document, **{name: told[name] for name in told if name not in ("vulnerability", "package")}}


def building(world: World, name: str) -> list[Ask]:
    place = {"repository": f"{world.git.url}/acme/images", "ref": "main", "path": f"{name}.yaml"}
    path = "/v1/builds"
    return [
        *(Ask(path, one) for one in ({"recipe": name}, {"recipe": sent(name)}, place)),
        Ask(path, text=RECIPE.replace("golden/NAME", "team/NAME").replace("NAME", name)),
        Ask(path, {"recipe": name, "dryRun": True}),
        Ask(path, {"recipe": name, "lockUse": "update", "force": True}),
    ]


def disguised(path: str) -> list[Ask]:
    """Published as one's own and named otherwise, or named as one's own and published otherwise."""
    return [Ask(path, {"recipe": sent("python", "team/web")}), Ask(path, {"recipe": sent("web", "team/python")})]


def locking(world: World, name: str) -> list[Ask]:
    return [Ask("/v1/locks", ask.body, ask.text) for ask in building(world, name)[:4]]


def build_asks(world: World, name: str, verb: str, *, ended: bool) -> list[Ask]:
    wanted: list[Any] = [name, sent(name)]
    if name != "web":
        wanted += [ask.body["recipe"] for ask in disguised("") if ask.body]
    rebuilt = [GOLDEN[name]] + ([DISGUISED] if name != "web" else [])
    made = [world.made(one, ended=ended) for one in wanted] + [world.rebuilt(one, ended=ended) for one in rebuilt]
    return [Ask(f"/v1/builds/{one}/{verb}") for one in made]


def comparing(_: World, name: str) -> list[Ask]:
    golden, path = GOLDEN[name], "/v1/comparisons"
    return [
        Ask(path, {"golden": golden, "subject": {"image": "127.0.0.1:1/golden/web:latest"}}),
        Ask(f"{path}?golden={golden}", text="x", media_type="application/x-tar"),
    ]


# What each route is asked for of a recipe. Of another one than web also what only looks like it.
OF_RECIPES: dict[str, Callable[[World, str], list[Ask]]] = {
    "POST /v1/builds": lambda world, name: (
        building(world, name) + (disguised("/v1/builds") if name != "web" else [])
    ),
    "POST /v1/locks": lambda world, name: locking(world, name) + (disguised("/v1/locks") if name != "web" else []),
    "POST /v1/builds/{build_id}/cancel": lambda world, name: build_asks(world, name, "cancel", ended=False),
    "POST /v1/builds/{build_id}/retry": lambda world, name: build_asks(world, name, "retry", ended=True),
    "POST /v1/images/{digest}/rebuilds": lambda _, name: [
        Ask(f"/v1/images/{one}/rebuilds", {}) for one in [GOLDEN[name]] + ([DISGUISED] if name != "web" else [])
    ],
    "POST /v1/comparisons": comparing,
    "POST /v1/exceptions": lambda _, name: [
        Ask("/v1/exceptions", one) for one in [risk(name)] + ([risk(None)] if name != "web" else [])
    ],
    "POST /v1/exceptions/imports": lambda _, name: [
        Ask("/v1/exceptions/imports", one) for one in [supplied(name)] + ([supplied(None)] if name != "web" else [])
    ],
    "DELETE /v1/exceptions/{exception_id}": lambda world, name: [
        Ask(f"/v1/exceptions/{world.excepted(one)}") for one in ([name] if name == "web" else [name, None])
    ],
}  # fmt: skip
# Of these nothing is about one recipe alone.
OF_ALL: dict[str, Callable[[World], Ask]] = {
    "POST /v1/rescans": lambda _: Ask("/v1/rescans"),
    "POST /v1/webhooks": lambda _: Ask("/v1/webhooks", {"url": "https://93.184.215.14/hook", "events": ["build.*"]}),
    "DELETE /v1/webhooks/{webhook_id}": lambda world: Ask(f"/v1/webhooks/{world.webhook()[0]}"),
    "POST /v1/webhooks/{webhook_id}/test": lambda world: Ask(f"/v1/webhooks/{world.webhook()[0]}/test"),
    "POST /v1/webhooks/{webhook_id}/deliveries/{number}/replay": lambda world: Ask(
        "/v1/webhooks/{}/deliveries/{}/replay".format(*world.webhook())
    ),
}
# They say something of what is there. A cosignature counts by its witness's own key.
KEEPING_NOTHING: dict[str, Callable[[World], Ask]] = {
    "POST /v1/policies/evaluate": lambda world: Ask(
        "/v1/policies/evaluate", {"build": world.made("web", ended=True)}
    ),
    "POST /v1/verifications": lambda _: Ask("/v1/verifications", {"digest": GOLDEN["web"]}),
    "POST /v1/ledger/cosignatures": lambda _: Ask("/v1/ledger/cosignatures", text="x", media_type="text/plain"),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("bound")
    shutil.copy(migrated_file, directory / "goldsmith.db")
    (directory / "recipes").mkdir()
    for name in GOLDEN:
        (directory / "recipes" / f"{name}.yaml").write_text(RECIPE.replace("NAME", name))
    with running_issuer() as issuer, git_server(directory / "git") as git:
        git.repository("acme/images", {f"{name}.yaml": RECIPE.replace("golden/NAME", "team/NAME").replace("NAME", name)
                                       for name in GOLDEN})  # fmt: skip
        may = [Scope.BUILDS_WRITE, Scope.COMPARISONS_WRITE]
        rule = {"claims": {"repository": "acme/web"}, "scopes": may, "recipes": ["web"]}
        (directory / "issuers.yaml").write_text(issuers_file(issuer.url, rules=[rule]))
        app = create_app(
            Settings(
                database_url=f"sqlite:///{directory / 'goldsmith.db'}", recipes_directory=directory / "recipes",
                state_directory=directory, registry="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0",
                issuers=directory / "issuers.yaml", git_hosts=(git.host,), git_private=True,
                exception_approvers=("whoever may all", "an administrator for web"),
            )
        )  # fmt: skip
        services = app.state.services
        services.registry = services.impatient_registry
        with app.state.database.write() as session:
            callers = {
                "a job": issuer.token(),
                "a key": keys.create_key(session, "a key", may, recipes=["web"]),
                "an administrator for web": keys.create_key(session, "an administrator for web", recipes=["web"]),
                "an auditor": keys.create_key(session, "an auditor", [Scope.PROVENANCE_READ, Scope.BUILDS_READ]),
                "whoever may all": keys.create_key(session, "whoever may all"),
            }
        with TestClient(app, raise_server_exceptions=False) as client:
            made = World(client, app.state.database, git, callers)
            made.release()
            yield made


MAY = {
    "a job": {Scope.BUILDS_WRITE, Scope.COMPARISONS_WRITE},
    "a key": {Scope.BUILDS_WRITE, Scope.COMPARISONS_WRITE},
    "an administrator for web": {*Scope},
}
BOUND = [(caller, action) for caller, may in MAY.items() for action in OF_RECIPES if may & {*ROUTES[action].scopes}]


def test_every_route_that_changes_something_is_asked_here() -> None:
    assert sorted([*OF_RECIPES, *OF_ALL, *KEEPING_NOTHING]) == sorted(CHANGING)


@pytest.mark.parametrize(("caller", "action"), BOUND)
def test_who_is_bound_to_a_recipe_starts_and_ends_its_own_and_no_others(world: World, caller: str, action: str) -> None:
    for own in OF_RECIPES[action](world, "web"):
        answer = world.ask(caller, action, own)
        # Of what is compared the registry would be asked next, and there is none.
        reached = action == "POST /v1/comparisons" and answer.json().get("type") == "/problems/registry-unavailable"
        assert answer.status_code < 300 or reached, (own, answer.text)
    others = OF_RECIPES[action](world, "python")
    before = world.kept()
    for one in others:
        problem(world.ask(caller, action, one), 403, "recipe-not-allowed")
    assert world.kept() == before


@pytest.mark.parametrize("action", OF_ALL)
def test_who_is_bound_to_a_recipe_starts_nothing_that_concerns_all(world: World, action: str) -> None:
    wanted = OF_ALL[action](world)
    before = world.kept()
    for caller, may in MAY.items():
        slug = "recipe-not-allowed" if may & {*ROUTES[action].scopes} else "scope-missing"
        problem(world.ask(caller, action, wanted), 403, slug)
    assert world.kept() == before
    assert world.ask("whoever may all", action, wanted).status_code < 300


@pytest.mark.parametrize("action", [*OF_RECIPES, *OF_ALL])
def test_an_auditor_starts_and_changes_nothing(world: World, action: str) -> None:
    asked = OF_RECIPES[action](world, "web") if action in OF_RECIPES else [OF_ALL[action](world)]
    before = world.kept()
    for one in asked:
        problem(world.ask("an auditor", action, one), 403, "scope-missing")
    assert world.kept() == before


@pytest.mark.parametrize("action", KEEPING_NOTHING)
def test_what_an_auditor_may_ask_beside_reading_keeps_nothing(world: World, action: str) -> None:
    asked = KEEPING_NOTHING[action](world)
    before = world.kept()
    answer = world.ask("an auditor", action, asked)
    assert answer.status_code not in (401, 403, 500), answer.text
    assert world.kept() == before
