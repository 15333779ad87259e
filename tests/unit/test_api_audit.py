"""The audit log: what is in it, who may read it, and that nothing goes out unwritten."""

from __future__ import annotations

import json
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from builder.api import auditing
from builder.cli.main import main
from builder.settings import Settings
from builder.store import audit, keys
from builder.store.callers import AuditEntry
from builder.store.database import Database, DatabaseUnavailable
from builder.store.scopes import Scope
from tests.unit.api import problem, submit
from tests.unit.databases import Cluster
from tests.unit.evidence import digest

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


def entries(store: Database) -> list[tuple[str | None, str, str, int]]:
    """The oldest first."""
    with store.read() as session:
        return [(one.caller, one.action, one.subject, one.status) for one in reversed(audit.page(session))]


def limited(store: Database, name: str, *scopes: Scope, expires_at: float | None = None) -> dict[str, str]:
    with store.write() as session:
        return {"Authorization": f"Bearer {keys.create_key(session, name, scopes, expires_at=expires_at)}"}


def test_what_is_started_ended_or_refused_is_written_down(client: TestClient, store: Database) -> None:
    made = client.post("/v1/builds", json={"recipe": "web"}).json()["id"]
    assert client.post(f"/v1/builds/{made}/cancel").status_code == 202
    assert client.post("/v1/builds", json={"recipe": "nothing"}).status_code == 404
    assert client.delete(f"/v1/exceptions/{'0' * 26}").status_code == 403
    assert entries(store) == [
        ("ci", "POST /v1/builds", made, 202),
        ("ci", "POST /v1/builds/{build_id}/cancel", made, 202),
        ("ci", "POST /v1/builds", "", 404),
        ("ci", "DELETE /v1/exceptions/{exception_id}", "0" * 26, 403),
    ]


def test_reading_evidence_is_written_down_and_other_reading_is_not(client: TestClient, store: Database) -> None:
    image = digest("a")
    for path in ("/v1/provenance", f"/v1/images/{image}/provenance", "/v1/audit"):
        client.get(path)
    for path in ("/v1/builds", f"/v1/builds/{submit(store)}", "/v1/recipes", "/v1/ledger/tile/0/000", "/nowhere"):
        client.get(path)
    for path in ("/healthz", "/v1/trust", "/problems/x", "/openapi.json"):
        client.get(path)
    client.head("/v1/provenance")
    client.delete("/v1/builds")
    assert entries(store) == [
        ("ci", "GET /v1/provenance", "", 200),
        ("ci", "GET /v1/images/{digest}/provenance", image, 404),
        ("ci", "GET /v1/audit", "", 200),
    ]


def test_an_answer_that_the_caller_had_already_was_read_all_the_same(client: TestClient, store: Database) -> None:
    tag = client.get("/v1/provenance").headers["ETag"]
    assert client.get("/v1/provenance", headers={"If-None-Match": tag}).status_code == 304
    assert [status for *_, status in entries(store)] == [200, 304]


def test_who_is_refused_is_written_down_with_the_name_of_a_known_key(anyone: TestClient, store: Database) -> None:
    anyone.get("/v1/builds")
    anyone.get("/v1/builds", headers={"Authorization": "Bearer gs_wrong"})
    anyone.get("/v1/builds", headers=limited(store, "old", Scope.ADMIN, expires_at=time.time() - 1))
    anyone.post("/v1/builds", headers=limited(store, "auditor", Scope.PROVENANCE_READ))
    assert entries(store) == [
        (None, "GET /v1/builds", "", 401),
        (None, "GET /v1/builds", "", 401),
        ("old", "GET /v1/builds", "", 401),
        ("auditor", "POST /v1/builds", "", 403),
    ]


def test_no_key_is_ever_written_down(client: TestClient, store: Database) -> None:
    client.get("/v1/provenance")
    key = client.headers["Authorization"].removeprefix("Bearer ")
    with store.read() as session:
        (one,) = audit.page(session)
    assert key not in str(vars(one))
    assert one.key_id is not None


def test_who_asks_too_often_is_written_down_once_a_minute(
    app: FastAPI, client: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.state.settings = app.state.settings.model_copy(update={"jobs_per_minute": 1})
    asked = [client.post("/v1/builds", json={"recipe": "web"}).status_code for _ in range(5)]
    assert asked.count(429) >= 3
    assert [status for *_, status in entries(store)].count(429) == 1
    later = time.monotonic() + 61
    monkeypatch.setattr("builder.api.auditing.time.monotonic", lambda: later)
    while client.post("/v1/builds", json={"recipe": "web"}).status_code != 429:
        pass
    assert [status for *_, status in entries(store)].count(429) == 2


def test_strangers_cannot_fill_the_database(
    anyone: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "_STRANGERS", 3)
    known = limited(store, "known")
    for _ in range(5):
        anyone.get("/v1/builds")
        anyone.get("/v1/builds", headers=known)
    assert [caller for caller, *_ in entries(store)].count(None) == 3
    assert [caller for caller, *_ in entries(store)].count("known") == 5
    later = time.monotonic() + 61
    monkeypatch.setattr("builder.api.auditing.time.monotonic", lambda: later)
    anyone.get("/v1/builds")
    assert [caller for caller, *_ in entries(store)].count(None) == 4


class TestOnPostgres:
    @pytest.fixture
    def database_url(self, migrated_cluster: Cluster) -> str:
        return migrated_cluster.create("audit", "migrated")

    def test_what_no_database_would_take_is_written_as_what_it_can(self, client: TestClient, store: Database) -> None:
        client.post("/v1/builds/%00%1b[2J/cancel")
        assert entries(store) == [("ci", "POST /v1/builds/{build_id}/cancel", "??[2J", 404)]


def test_nothing_goes_out_that_could_not_be_written_down(
    client: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnavailable("the database does not answer")

    monkeypatch.setattr(audit, "append", away)
    answer = client.get("/v1/provenance")
    problem(answer, 503, "database-unavailable")
    assert "releases" not in answer.json()
    assert client.get("/v1/builds").status_code == 200
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == 0


def test_a_request_that_broke_the_service_is_written_down(app: FastAPI, client: TestClient, store: Database) -> None:
    app.state.services = None
    assert client.post("/v1/builds", json={"recipe": "web"}).status_code == 500
    assert entries(store) == [("ci", "POST /v1/builds", "", 500)]


def test_it_is_read_in_pages_the_newest_first(client: TestClient, store: Database) -> None:
    other = limited(store, "other", Scope.ADMIN)
    for _ in range(3):
        client.get("/v1/findings")
        client.get("/v1/findings", headers=other)
    page = client.get("/v1/audit", params={"limit": 2, "caller": "other"}).json()
    assert [one["caller"] for one in page["entries"]] == ["other", "other"]
    assert page["entries"][0]["id"] > page["entries"][1]["id"]
    assert set(page["entries"][0]) == {"id", "at", "caller", "key", "action", "subject", "status", "requestId"}
    last = client.get(page["next"]).json()
    assert (len(last["entries"]), last["next"]) == (1, None)


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "before=0", "before=x", "caller=", "caller=%00"])
def test_what_makes_no_sense_is_refused(client: TestClient, query: str) -> None:
    problem(client.get(f"/v1/audit?{query}"), 422, "request-invalid")


def test_only_an_administrator_reads_it(anyone: TestClient, store: Database) -> None:
    every_other = [scope for scope in Scope if scope is not Scope.ADMIN]
    problem(anyone.get("/v1/audit", headers=limited(store, "x", *every_other)), 403, "scope-missing")


def test_operators_see_it_on_the_command_line(
    client: TestClient,
    store: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GOLDSMITH_DATABASE_URL", settings.database_url)
    assert main(["audit"]) == 0
    assert capsys.readouterr().out == "there are no such entries\n"
    made = client.post("/v1/builds", json={"recipe": "web"}).json()["id"]
    client.get("/v1/findings", headers=limited(store, "stranger"))
    assert main(["audit"]) == 0
    heading, refused, started = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ENTRY", "AT", "CALLER", "STATUS", "ACTION", "SUBJECT"]
    assert refused.split()[3:] == ["stranger", "403", "GET", "/v1/findings"]
    assert started.split()[3:] == ["ci", "202", "POST", "/v1/builds", made]
    assert main(["audit", "--caller", "ci", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["entries"]
    (served,) = client.get("/v1/audit?caller=ci").json()["entries"]
    assert [{**one, "at": None} for one in told] == [{**served, "at": None}]
