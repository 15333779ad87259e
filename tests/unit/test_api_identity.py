"""Callers of the API by token, and callers that may build some recipes only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from builder.settings import Settings
from builder.store import audit, builds, keys
from builder.store.database import Database
from builder.store.scopes import Scope
from builder.store.states import State
from tests.unit.api import RECIPE, end, problem
from tests.unit.evidence import digest
from tests.unit.oidc_issuer import SUBJECT, Issuer, issuers_file, running_issuer

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as found:
        yield found


@pytest.fixture
def settings(settings: Settings, issuer: Issuer, tmp_path: Path) -> Settings:
    path = tmp_path / "issuers.yaml"
    path.write_text(issuers_file(issuer.url))
    return settings.model_copy(update={"issuers": path})


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def inline(name: str, repository: str | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": name},
        "spec": {
            "base": {"debian": {"suite": "trixie"}}, "publish": {"repository": repository or f"team/{name}"},
        },
    }  # fmt: skip


@pytest.fixture(params=["token", "key"])
def bound(request: pytest.FixtureRequest, issuer: Issuer, store: Database) -> dict[str, str]:
    """A caller that may build web and nothing else."""
    if request.param == "token":
        return bearing(issuer.token())
    with store.write() as session:
        return bearing(keys.create_key(session, "bound", [Scope.BUILDS_WRITE, Scope.BUILDS_READ], recipes=["web"]))


def test_a_job_builds_its_recipe_and_its_identity_is_on_record(
    anyone: TestClient, issuer: Issuer, store: Database
) -> None:
    answer = anyone.post("/v1/builds", json={"recipe": "web"}, headers=bearing(issuer.token()))
    assert answer.status_code == 202, answer.text
    with store.read() as session:
        build = builds.get(session, answer.json()["id"])
        (entry,) = audit.page(session)
    assert build.requester == entry.caller == f"ci:{SUBJECT}"
    assert build.identity is not None
    assert (build.identity["issuer"], build.identity["subject"]) == (issuer.url, SUBJECT)
    assert build.identity["claims"]["run_id"] == "42"
    assert entry.key_id is None


def test_a_key_is_on_record_too(client: TestClient, store: Database) -> None:
    made = client.post("/v1/builds", json={"recipe": "web"}).json()["id"]
    with store.read() as session:
        (key,) = keys.every(session)
        assert builds.get(session, made).identity == {"apiKey": key.id, "name": "ci"}


@pytest.mark.parametrize("route", ["/v1/builds", "/v1/locks"])
def test_who_is_bound_to_a_recipe_builds_no_other(anyone: TestClient, bound: dict[str, str], route: str) -> None:
    assert anyone.post(route, json={"recipe": "web"}, headers=bound).status_code == 202
    for wanted in (
        "python",
        inline("python"),
        inline("web-2"),
        inline("web", "team/python"),
        inline("python", "a/web"),
    ):
        told = problem(anyone.post(route, json={"recipe": wanted}, headers=bound), 403, "recipe-not-allowed")
        assert "may build web" in told.detail
    text = RECIPE.replace("NAME", "python")
    answer = anyone.post(route, content=text, headers={**bound, "Content-Type": "application/yaml"})
    problem(answer, 403, "recipe-not-allowed")


def test_who_is_bound_ends_and_retries_no_other(anyone: TestClient, bound: dict[str, str], store: Database) -> None:
    with store.write() as session:
        admin = bearing(keys.create_key(session, "admin"))
    others = anyone.post("/v1/builds", json={"recipe": "python"}, headers=admin).json()["id"]
    own = anyone.post("/v1/builds", json={"recipe": "web", "force": True}, headers=admin).json()["id"]
    problem(anyone.post(f"/v1/builds/{others}/cancel", headers=bound), 403, "recipe-not-allowed")
    assert anyone.post(f"/v1/builds/{own}/cancel", headers=bound).status_code == 202
    end(store, others, State.FAILED)
    problem(anyone.post(f"/v1/builds/{others}/retry", headers=bound), 403, "recipe-not-allowed")
    again = anyone.post(f"/v1/builds/{own}/retry", headers=bound)
    assert again.status_code == 202, again.text
    with store.read() as session:
        assert builds.get(session, again.json()["id"]).identity != builds.get(session, own).identity
    assert anyone.get(f"/v1/builds/{others}", headers=bound).status_code == 200


def test_who_is_bound_starts_nothing_about_every_release(anyone: TestClient, bound: dict[str, str]) -> None:
    problem(anyone.post("/v1/rescans", headers=bound), 403, "recipe-not-allowed")
    problem(anyone.post(f"/v1/images/{digest('a')}/rebuilds", headers=bound), 403, "recipe-not-allowed")


def test_a_token_that_is_refused_is_told_why_and_logged_as_a_strangers(
    anyone: TestClient, issuer: Issuer, store: Database
) -> None:
    told = problem(anyone.get("/v1/builds", headers=bearing(issuer.token(aud="x"))), 401, "token-refused")
    assert "another audience" in told.detail
    problem(anyone.get("/v1/builds", headers=bearing(issuer.token(repository="evil/x"))), 403, "token-not-granted")
    problem(anyone.get("/v1/audit", headers=bearing(issuer.token())), 403, "scope-missing")
    with store.read() as session:
        assert [(one.caller, one.status) for one in audit.page(session)] == [
            (f"ci:{SUBJECT}", 403), (None, 403), (None, 401),
        ]  # fmt: skip


def test_an_issuer_that_is_away_is_told_as_such(anyone: TestClient, issuer: Issuer) -> None:
    issuer.documents["/.well-known/openid-configuration"] = (500, b"")
    problem(anyone.get("/v1/builds", headers=bearing(issuer.token())), 503, "issuer-unavailable")


def test_whoami_tells_the_caller_what_the_service_takes_it_for(
    anyone: TestClient, issuer: Issuer, store: Database
) -> None:
    told = anyone.get("/v1/whoami", headers=bearing(issuer.token())).json()
    assert told["name"] == f"ci:{SUBJECT}"
    assert told["scopes"] == ["builds:write", "builds:read"]
    assert told["recipes"] == ["web"]
    assert told["identity"]["subject"] == SUBJECT
    assert told["expiresAt"]
    with store.write() as session:
        nothing = bearing(keys.create_key(session, "nothing", []))
    told = anyone.get("/v1/whoami", headers=nothing).json()
    assert (told["name"], told["scopes"], told["recipes"], told["expiresAt"]) == ("nothing", [], None, None)
    problem(anyone.get("/v1/whoami"), 401, "not-authenticated")
