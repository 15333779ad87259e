"""Who may call the API, and how every failure of a call is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import update

from builder.api.bodies import MAX_BODY
from builder.settings import Settings
from builder.store import keys
from builder.store.callers import ApiKey
from builder.store.database import Database
from tests.unit.api import problem
from tests.unit.evidence import digest

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

OPEN = {"/healthz", "/readyz", "/v1/trust"}


class TestAccess:
    def test_every_route_but_the_open_ones_needs_a_key(self, app: FastAPI, anyone: TestClient) -> None:
        parts = [getattr(entry, "original_router", None) for entry in app.routes]
        routes = [route for part in parts if part for route in part.routes if isinstance(route, APIRoute)]
        assert {route.path_format for route in routes} == set(app.openapi()["paths"])
        assert {route.path for route in routes} >= OPEN
        closed = [route for route in routes if route.path not in OPEN]
        assert len(closed) >= 12
        for route in closed:
            path = route.path_format.format(
                build_id="0" * 26,
                comparison_id="0" * 26,
                exception_id="0" * 26,
                webhook_id="0" * 16,
                number=1,
                digest=digest("a"),
                attestation="scan",
                name="web",
                slug="x",
                index=0,
                size=1,
                tile="0/000",
            )
            for method in route.methods:
                answer = anyone.request(method, path)
                told = problem(answer, 401, "not-authenticated")
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert "Authorization: Bearer" in (told.hint or "")

    @pytest.mark.parametrize(
        "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic Y2k6eA==", "bearer gs_", "Bearer \xff", "Bearer a b"]
    )
    def test_what_is_no_key_is_refused_and_not_repeated(self, anyone: TestClient, header: str) -> None:
        answer = anyone.get("/v1/builds", headers={"Authorization": header.encode("latin-1")})
        told = problem(answer, 401, "not-authenticated")
        assert "gs_" not in told.detail

    def test_a_revoked_key_is_refused(self, client: TestClient, store: Database) -> None:
        assert client.get("/v1/builds").status_code == 200
        with store.write() as session:
            session.execute(update(ApiKey).values(revoked_at=1.0))
        problem(client.get("/v1/builds"), 401, "not-authenticated")

    def test_nobody_unknown_learns_what_is_valid(self, anyone: TestClient) -> None:
        problem(anyone.get("/v1/builds?limit=x"), 401, "not-authenticated")
        problem(anyone.get("/v1/images/x"), 401, "not-authenticated")
        problem(anyone.post("/v1/builds", content=b"x" * (MAX_BODY + 1)), 401, "not-authenticated")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_what_is_open_answers_anyone(self, anyone: TestClient, path: str) -> None:
        assert anyone.get(path).status_code == 200

    def test_there_are_no_routes_beside_those_of_the_document(self, app: FastAPI, anyone: TestClient) -> None:
        beside = [route for route in app.routes if not hasattr(route, "original_router")]
        assert beside == []
        for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
            problem(anyone.get(path), 404, None)

    def test_the_document_and_the_problems_pages_are_for_whoever_is_known(
        self, anyone: TestClient, store: Database, app: FastAPI
    ) -> None:
        for path in ("/openapi.json", "/problems/build-unknown", "/problems/not-authenticated"):
            told = problem(anyone.get(path), 401, "not-authenticated")
            assert "goldsmith key create" in (told.hint or "")
        with store.write() as session:
            key = {"Authorization": f"Bearer {keys.create_key(session, 'any', [])}"}
        document = anyone.get("/openapi.json", headers=key)
        assert document.json() == app.openapi()
        known = {"If-None-Match": document.headers["ETag"]}
        assert anyone.get("/openapi.json", headers={**key, **known}).status_code == 304
        assert anyone.get("/problems/build-unknown", headers=key).text.startswith("There is no such build\n")


class TestProblems:
    def test_nothing_there(self, client: TestClient) -> None:
        assert problem(client.get("/nowhere"), 404, None).detail == "there is nothing at /nowhere"

    def test_a_method_that_is_not_allowed(self, client: TestClient) -> None:
        answer = client.delete("/v1/builds")
        assert problem(answer, 405, None).detail == "DELETE is not allowed at /v1/builds"
        assert answer.headers["Allow"]

    def test_a_fault_of_ours_tells_no_detail(self, app: FastAPI, client: TestClient) -> None:
        def broken() -> None:
            raise KeyError("hunter2 in /srv/secret")

        app.add_api_route("/broken", broken)
        answer = client.get("/broken")
        told = problem(answer, 500, "internal-error")
        assert told.hint == f"the service's log says why: {answer.headers['X-Request-Id']}"
        assert "hunter2" not in answer.text

    def test_a_database_that_is_away_can_be_tried_again(
        self, client: TestClient, store: Database, settings: Settings
    ) -> None:
        with store._engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE builds RENAME TO away")
            connection.commit()
        answer = client.get("/v1/builds")
        problem(answer, 503, "database-unavailable")
        assert settings.database_url not in answer.text

    def test_each_problem_that_can_be_met_has_its_page(self, client: TestClient) -> None:
        sources = [
            path.read_text()
            for path in (Path(__file__).parents[2] / "builder").glob("*/*.py")
            if path.parent.name not in ("cli", "client", "sandbox")
        ]
        slugs = [slug for text in sources for slug in re.findall(r'^    slug = "([a-z-]+)"$', text, re.MULTILINE)]
        assert len(slugs) > 60
        missing = [slug for slug in slugs if client.get(f"/problems/{slug}").status_code != 200]
        assert missing == []

    def test_a_page_says_title_status_and_whether_a_retry_helps(self, client: TestClient) -> None:
        text = client.get("/problems/database-unavailable").text
        assert text.startswith("The database does not answer\n")
        assert "HTTP status 503. A retry can help." in text

    def test_a_page_of_no_problem_is_a_problem(self, client: TestClient) -> None:
        problem(client.get("/problems/" + "x" * 1000), 404, "problem-unknown")


class TestService:
    def test_is_ready_while_the_broker_is_away_and_says_so(self, anyone: TestClient, app: FastAPI) -> None:
        app.state.settings = Settings(redis_url="redis://:hunter2@127.0.0.1:1/0")
        answer = anyone.get("/readyz")
        assert answer.json()["checks"] == {"database": "ok", "redis": "away: builds are taken in and wait"}
        assert "hunter2" not in answer.text

    def test_trust_is_the_public_one_unless_another_is_set(self, anyone: TestClient) -> None:
        problem(anyone.get("/v1/trust"), 404, "trust-not-configured")

    def test_trust_that_is_set_is_given_to_anyone(self, anyone: TestClient, app: FastAPI, tmp_path: Path) -> None:
        (tmp_path / "trust.json").write_text('{"trustedRoot": {"mediaType": "x"}, "signingConfig": {}}')
        app.state.settings = Settings(
            sigstore_trust_config=tmp_path / "trust.json", signer_identity="https://a", signer_issuer="https://b"
        )
        assert anyone.get("/v1/trust").json() == {
            "identity": "https://a", "issuer": "https://b", "trustedRoot": {"mediaType": "x"},
        }  # fmt: skip

    @pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
    def test_trust_that_cannot_be_read_names_the_setting(
        self, anyone: TestClient, app: FastAPI, tmp_path: Path, content: str | None
    ) -> None:
        if content is not None:
            (tmp_path / "trust.json").write_text(content)
        app.state.settings = Settings(sigstore_trust_config=tmp_path / "trust.json")
        told = problem(anyone.get("/v1/trust"), 500, "settings-invalid")
        assert "GOLDSMITH_SIGSTORE_TRUST_CONFIG" in told.detail
        assert str(tmp_path) not in told.detail


def test_the_document_describes_every_failure_as_a_problem(app: FastAPI) -> None:
    document = app.openapi()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, told in operation["responses"].items():
                shared = told.get("$ref", "").rpartition("/")[2]
                response = document["components"]["responses"][shared] if shared else told
                if status.startswith(("4", "5")):
                    assert list(response["content"]) == ["application/problem+json"], (path, status)
