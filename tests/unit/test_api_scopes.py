"""Every route, asked by every kind of caller: let in, not known, or known and not allowed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy.orm import Session

from builder.api.app import create_app
from builder.api.scopes import ANYBODY_KNOWN, ROUTES, Needs
from builder.settings import Settings
from builder.store import keys
from builder.store.callers import ApiKey
from builder.store.scopes import Scope
from tests.unit.api import problem
from tests.unit.evidence import digest
from tests.unit.oidc_issuer import Issuer, issuers_file, rsa_key, running_issuer

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

DOCUMENT = create_app(Settings(database_url="sqlite://")).openapi()
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
OPEN = {"GET /healthz", "GET /readyz", "GET /v1/trust"}
PARAMETERS = {
    "webhook_id": "0" * 16,
    "number": "1",
    "build_id": "0" * 26, "comparison_id": "0" * 26, "exception_id": "0" * 26, "digest": digest("a"),
    "attestation": "scan", "name": "web", "slug": "x", "index": 0, "size": 1, "tile": "0/000",
}  # fmt: skip
# Refusals that are about who calls.
OF_CALLERS = {
    "not-authenticated", "key-expired", "token-refused", "token-not-granted", "scope-missing", "scope-undeclared",
}  # fmt: skip
AUDITOR = (Scope.PROVENANCE_READ, Scope.BUILDS_READ)
GRANTABLE = [scope for scope in Scope if scope is not Scope.ADMIN]


@dataclass(frozen=True)
class Caller:
    """`scopes` are what it may; `refused` says why it is not even let in with these."""

    bearer: str | None
    scopes: tuple[Scope, ...] = ()
    refused: str | None = None

    def expected(self, needs: Needs) -> str:
        if not needs.scopes:
            return "let in"
        if self.refused is not None:
            return self.refused
        may = needs is ANYBODY_KNOWN or {Scope.ADMIN, *needs.scopes} & {*self.scopes}
        return "let in" if may else "scope-missing"


@dataclass(frozen=True)
class Service:
    client: TestClient
    callers: dict[str, Caller]

    def ask(self, caller: str, action: str) -> Response:
        method, _, path = action.partition(" ")
        bearer = self.callers[caller].bearer
        headers = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
        return self.client.request(method, path.format(**PARAMETERS), headers=headers)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("scopes")
    shutil.copy(migrated_file, directory / "goldsmith.db")
    (directory / "recipes").mkdir()
    with running_issuer() as issuer:
        (directory / "issuers.yaml").write_text(issuers_file(issuer.url, rules=rules()))
        app = create_app(
            Settings(
                database_url=f"sqlite:///{directory / 'goldsmith.db'}", recipes_directory=directory / "recipes",
                state_directory=directory, registry="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0",
                issuers=directory / "issuers.yaml",
            )
        )  # fmt: skip
        with app.state.database.write() as session:
            callers = with_keys(session) | with_tokens(issuer)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield Service(client, callers)


def rules() -> list[dict[str, Any]]:
    """Tokens of a job that is named as a scope have that scope; those of the repository acme/web may build web."""
    own = {"repository": "acme/web", "job": "web"}
    may = ["builds:write", "builds:read", "comparisons:write"]
    return [{"claims": own, "scopes": may, "recipes": ["web"]}] + [
        {"claims": {"repository": "acme/web", "job": scope.value}, "scopes": [scope.value], "recipes": ["*"]}
        for scope in GRANTABLE
    ]


def with_keys(session: Session) -> dict[str, Caller]:
    def key(name: str, scopes: Sequence[Scope], **more: Any) -> str:
        return keys.create_key(session, name, scopes, **more)

    found = {
        "nobody": Caller(None, refused="not-authenticated"),
        "an unknown key": Caller("gs_wrong", refused="not-authenticated"),
        "an expired key": Caller(key("old", [*Scope], expires_at=time.time() - 1), (*Scope,), "key-expired"),
        "a revoked key": Caller(key("revoked", [*Scope]), (*Scope,), "not-authenticated"),
        "a key for nothing": Caller(key("nothing", [])),
        "an auditor's key": Caller(key("auditor", AUDITOR), AUDITOR),
        "a key for web": Caller(key("web", GRANTABLE, recipes=["web"]), (*GRANTABLE,)),
    }
    keys.revoke(session, "revoked")
    return found | {scope.value: Caller(key(scope, [scope]), (scope,)) for scope in Scope}


def with_tokens(issuer: Issuer) -> dict[str, Caller]:
    past = int(time.time()) - 7200
    may = (Scope.BUILDS_WRITE, Scope.BUILDS_READ, Scope.COMPARISONS_WRITE)
    found = {
        "a job that may build web": Caller(issuer.token(job="web"), may),
        "an expired token": Caller(issuer.token(job="web", exp=past, nbf=past, iat=past), may, "token-refused"),
        "a token for somebody else": Caller(issuer.token(job="web", aud="https://other.example"), may, "token-refused"),
        "a token of another key": Caller(issuer.token(rsa_key(), job="web"), may, "token-refused"),
        "a job of no rule": Caller(issuer.token(job="lint"), refused="token-not-granted"),
        "a stranger's repository": Caller(issuer.token(job="web", repository="evil/x"), refused="token-not-granted"),
    }
    return found | {f"a job for {scope}": Caller(issuer.token(job=scope.value), (scope,)) for scope in GRANTABLE}


def outcome(answer: Response) -> str:
    kind = answer.headers.get("content-type")
    slug = answer.json()["type"].rpartition("/")[2] if kind == "application/problem+json" else ""
    return slug if slug in OF_CALLERS else "let in"


@pytest.mark.parametrize("action", [action for action, _ in OPERATIONS])
def test_who_is_let_in_where(service: Service, action: str) -> None:
    assert action in ROUTES, "say in builder/api/scopes.py which scope it needs"
    expected = {name: caller.expected(ROUTES[action]) for name, caller in service.callers.items()}
    assert {name: outcome(service.ask(name, action)) for name in service.callers} == expected


def test_the_table_has_the_routes_there_are_and_no_others() -> None:
    assert set(ROUTES) == {action for action, _ in OPERATIONS}


def test_only_health_and_trust_are_open() -> None:
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
    answer = service.ask("an expired key", "GET /v1/builds")
    told = problem(answer, 401, "key-expired")
    assert "expired at 20" in told.detail
    assert "goldsmith key create" in (told.hint or "")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_without_the_scope_learns_nothing_of_what_is_there(service: Service) -> None:
    for action in ("GET /v1/builds/{build_id}", "POST /v1/builds/{build_id}/cancel"):
        problem(service.ask("a key for nothing", action), 403, "scope-missing")


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
