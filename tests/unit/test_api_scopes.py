"""Every route, asked by every kind of caller: let in, not known, or known and not allowed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from builder.api.app import create_app
from builder.api.scopes import ANYBODY_KNOWN, ROUTES
from builder.settings import Settings
from builder.store import keys
from builder.store.callers import ApiKey
from builder.store.scopes import Scope
from tests.unit.api import problem
from tests.unit.evidence import digest

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

DOCUMENT = create_app(Settings(database_url="sqlite://")).openapi()
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
OPEN = {"GET /healthz", "GET /readyz", "GET /v1/trust", "GET /problems/{slug}"}
PARAMETERS = {
    "webhook_id": "0" * 16,
    "number": "1",
    "build_id": "0" * 26, "comparison_id": "0" * 26, "exception_id": "0" * 26, "digest": digest("a"),
    "attestation": "scan", "name": "web", "slug": "x", "index": 0, "size": 1, "tile": "0/000",
}  # fmt: skip
# Refusals that are about the key.
OF_KEYS = {"not-authenticated", "key-expired", "scope-missing", "scope-undeclared"}


@dataclass(frozen=True)
class Service:
    client: TestClient
    keys: dict[str, str | None]

    def ask(self, caller: str, action: str) -> Response:
        method, _, path = action.partition(" ")
        key = self.keys[caller]
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        return self.client.request(method, path.format(**PARAMETERS), headers=headers)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("scopes")
    shutil.copy(migrated_file, directory / "goldsmith.db")
    (directory / "recipes").mkdir()
    app = create_app(
        Settings(
            database_url=f"sqlite:///{directory / 'goldsmith.db'}", recipes_directory=directory / "recipes",
            state_directory=directory, registry="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0",
        )
    )  # fmt: skip
    with app.state.database.write() as session:
        known: dict[str, str | None] = {"nobody": None, "wrong": "gs_wrong"}
        known |= {scope.value: keys.create_key(session, scope.value, [scope]) for scope in Scope}
        known["nothing"] = keys.create_key(session, "nothing", [])
        known["expired"] = keys.create_key(session, "expired", expires_at=time.time() - 1)
        known["revoked"] = keys.create_key(session, "revoked")
        keys.revoke(session, "revoked")
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Service(client, known)


def outcome(answer: Response) -> str:
    kind = answer.headers.get("content-type")
    slug = answer.json()["type"].rpartition("/")[2] if kind == "application/problem+json" else ""
    return slug if slug in OF_KEYS else "let in"


@pytest.mark.parametrize("action", [action for action, _ in OPERATIONS])
def test_who_is_let_in_where(service: Service, action: str) -> None:
    assert action in ROUTES, "say in builder/api/scopes.py which scope it needs"
    needs = ROUTES[action].scopes
    expected = dict.fromkeys(service.keys, "let in")
    if ROUTES[action] is ANYBODY_KNOWN:
        expected = {
            **expected, "nobody": "not-authenticated", "wrong": "not-authenticated", "revoked": "not-authenticated",
            "expired": "key-expired",
        }  # fmt: skip
    elif needs:
        expected = {
            "nobody": "not-authenticated", "wrong": "not-authenticated", "revoked": "not-authenticated",
            "expired": "key-expired", "nothing": "scope-missing",
            **{scope.value: "let in" if scope in {*needs, Scope.ADMIN} else "scope-missing" for scope in Scope},
        }  # fmt: skip
    assert {caller: outcome(service.ask(caller, action)) for caller in service.keys} == expected


def test_the_table_has_the_routes_there_are_and_no_others() -> None:
    assert set(ROUTES) == {action for action, _ in OPERATIONS}


def test_only_health_trust_and_documentation_are_open() -> None:
    assert {action for action, needs in ROUTES.items() if not needs.scopes} == OPEN


def test_the_document_names_the_scopes_and_the_refusals() -> None:
    for action, operation in OPERATIONS:
        if action in OPEN:
            assert "security" not in operation
        else:
            assert operation["security"] == [{"HTTPBearer": [scope]} for scope in ROUTES[action].scopes], action
            assert {"401", "403"} <= set(operation["responses"]), action


def changes(scope: Scope) -> set[str]:
    return {action for action, needs in ROUTES.items() if scope in needs.scopes and not action.startswith("GET ")}


def test_who_may_only_read_starts_and_changes_nothing() -> None:
    # A dry run and a verification keep nothing; a cosignature counts by the witness's own key.
    assert changes(Scope.BUILDS_READ) == {"POST /v1/policies/evaluate"}
    assert changes(Scope.PROVENANCE_READ) == {"POST /v1/ledger/cosignatures", "POST /v1/verifications"}


def test_who_may_compare_can_build_nothing_and_no_builder_can_except() -> None:
    assert changes(Scope.COMPARISONS_WRITE) == {"POST /v1/comparisons"}
    assert not [action for action in changes(Scope.BUILDS_WRITE) if "exceptions" in action]


def test_a_refusal_names_the_scope_and_the_way_out(service: Service) -> None:
    told = problem(service.ask("builds:read", "POST /v1/builds"), 403, "scope-missing")
    assert "needs the scope builds:write" in told.detail
    assert "goldsmith key create NAME --scope builds:write" in (told.hint or "")
    either = problem(service.ask("builds:read", "GET /v1/comparisons"), 403, "scope-missing")
    assert "provenance:read or comparisons:write" in either.detail


def test_an_expired_key_is_told_so_and_how_to_get_another(service: Service) -> None:
    answer = service.ask("expired", "GET /v1/builds")
    told = problem(answer, 401, "key-expired")
    assert "expired at 20" in told.detail
    assert "goldsmith key create" in (told.hint or "")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_without_the_scope_learns_nothing_of_what_is_there(service: Service) -> None:
    for action in ("GET /v1/builds/{build_id}", "POST /v1/builds/{build_id}/cancel"):
        problem(service.ask("nothing", action), 403, "scope-missing")


def test_a_route_without_a_scope_is_closed_even_to_an_administrator(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = {action: needs for action, needs in ROUTES.items() if action != "GET /v1/builds"}
    monkeypatch.setattr("builder.api.access.ROUTES", fewer)
    problem(client.get("/v1/builds"), 500, "scope-undeclared")


def test_the_last_use_is_noted_once_a_minute(app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def last_use() -> float | None:
        with app.state.database.read() as session:
            found: ApiKey = keys.every(session)[0]
            return found.last_used_at

    assert last_use() is None
    start = time.time()
    uses = []
    for later in (0.0, 59.0, 61.0, 90.0):
        monkeypatch.setattr("builder.api.access.time.time", lambda later=later: start + later)
        assert client.get("/v1/builds").status_code == 200
        uses.append((last_use() or 0) - start)
    assert uses == pytest.approx([0.0, 0.0, 61.0, 61.0])
