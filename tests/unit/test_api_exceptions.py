"""Exceptions through the API: who may make them, what must be said, and how they look until they expire."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from builder.settings import Settings
from builder.store import errands, exceptions
from builder.store.database import Database
from builder.store.errands import ErrandKind
from builder.store.schema import ExceptionRow, VexDocument
from tests.unit.api import problem

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

PATH = "/v1/exceptions"


def asked(**changes: Any) -> dict[str, Any]:
    expires = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    told = {"vulnerability": "CVE-2023-4911", "package": "libc6", "owner": "sec@example.org", "reason": "not reachable"}
    return {**told, "expires": expires, **changes}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"exception_approvers": ("ci",)})


def sign(store: Database) -> None:
    with store.write() as session:
        for document in session.query(VexDocument):
            exceptions.mark_signed(session, document.id, b"{}")


def test_one_is_taken_in_and_waits_for_its_signature(client: TestClient, store: Database) -> None:
    answer = client.post(PATH, json=asked())
    assert answer.status_code == 202
    told = answer.json()
    assert (told["state"], told["owner"], told["requester"]) == ("pending", "sec@example.org", "ci")
    assert answer.headers["Location"] == f"{PATH}/{told['id']}"
    with store.read() as session:
        (errand,) = errands.due(session)
    assert (errand.kind, ErrandKind(errand.kind).queue) == ("sign", "release")
    problem(client.get(f"{PATH}/{told['id']}/document"), 409, "exception-not-signed")
    sign(store)
    assert client.get(f"{PATH}/{told['id']}").json()["state"] == "active"
    assert client.get(f"{PATH}/{told['id']}/document").headers["content-type"].startswith("application/vnd.dev.sig")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"owner": ""}, "owner"),
        ({"reason": ""}, "reason"),
        ({"expires": None}, "expires"),
        ({"expires": "2026-01-01"}, "expires"),
        ({"vulnerability": "*"}, "vulnerability"),
        ({"severity": "LOW"}, "severity"),
        ({"status": "under_investigation"}, "status"),
    ],
)
def test_what_somebody_must_answer_for_must_be_said(client: TestClient, wrong: dict[str, Any], field: str) -> None:
    told = problem(client.post(PATH, json=asked(**wrong)), 422, "request-invalid")
    assert [fault.field for fault in told.errors] == [field]


@pytest.mark.parametrize(
    "wrong",
    [
        {"package": None},
        {"expires": (datetime.now(UTC) - timedelta(days=1)).isoformat()},
        {"expires": (datetime.now(UTC) + timedelta(days=400)).isoformat()},
    ],
)
def test_without_a_scope_or_for_too_long_there_is_none(client: TestClient, wrong: dict[str, Any]) -> None:
    problem(client.post(PATH, json=asked(**wrong)), 422, "exception-invalid")


def test_a_caller_whom_nobody_allowed_makes_and_revokes_none(client: TestClient, store: Database) -> None:
    made = client.post(PATH, json=asked()).json()["id"]
    services = client.app.state.services  # type: ignore[attr-defined]
    services.settings = services.settings.model_copy(update={"exception_approvers": ()})
    told = problem(client.post(PATH, json=asked()), 403, "exception-not-allowed")
    assert "GOLDSMITH_EXCEPTION_APPROVERS" in str(told)
    problem(client.post(f"{PATH}/imports", json={}), 403, "exception-not-allowed")
    problem(client.delete(f"{PATH}/{made}"), 403, "exception-not-allowed")


def test_one_that_has_expired_shouts_and_one_that_is_revoked_says_by_whom(client: TestClient, store: Database) -> None:
    old, gone = (client.post(PATH, json=asked()).json()["id"] for _ in range(2))
    sign(store)
    revoked = client.delete(f"{PATH}/{gone}").json()
    assert (revoked["state"], revoked["revokedBy"]) == ("revoked", "ci")
    listed = client.get(f"{PATH}/{old}").json()
    with store.write() as session:
        document = session.get_one(VexDocument, session.get_one(ExceptionRow, old).document_id)
        past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        created = (datetime.now(UTC) - timedelta(days=9)).isoformat()
        document.scope = document.scope.replace(listed["expires"], past).replace(listed["created"], created)
    told = client.get(f"{PATH}/{old}").json()
    assert told["state"] == "EXPIRED"
    assert told["daysLeft"] < 0


def test_pages_list_all_newest_first(client: TestClient) -> None:
    made = []
    for number in range(5):
        made.append(client.post(PATH, json=asked(vulnerability=f"CVE-2026-{number}")).json()["id"])
        time.sleep(0.002)
    found: list[str] = []
    following = f"{PATH}?limit=2"
    while following:
        page = client.get(following).json()
        found += [one["id"] for one in page["exceptions"]]
        following = page["next"]
    assert found == made[::-1]
    one = client.get(PATH, params={"vulnerability": "CVE-2026-3"}).json()["exceptions"]
    assert [each["id"] for each in one] == [made[3]]


def test_an_import_says_what_it_left_out(client: TestClient) -> None:
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://supplier.example/1", "author": "Supplier",
        "timestamp": "2026-11-01T00:00:00Z", "version": 1,
        "statements": [
            {"vulnerability": {"name": "CVE-2026-1"}, "products": [{"@id": "pkg:deb/debian/tar"}], "status": "fixed"},
            {"vulnerability": {"name": "CVE-2026-2"}, "status": "under_investigation"},
        ],
    }  # fmt: skip
    told = asked()
    body = {"document": document, "owner": told["owner"], "reason": told["reason"], "expires": told["expires"]}
    answer = client.post(f"{PATH}/imports", json=body)
    assert answer.status_code == 202
    assert [one["vulnerability"] for one in answer.json()["exceptions"]] == ["CVE-2026-1"]
    assert answer.json()["leftOut"] == ["CVE-2026-2: under_investigation excuses nothing"]
    problem(client.post(f"{PATH}/imports", json=body | {"document": {"statements": []}}), 422, "vex-invalid")
    problem(client.post(f"{PATH}/imports", json=body | {"owner": ""}), 422, "request-invalid")


def test_what_is_not_there_is_unknown(client: TestClient) -> None:
    problem(client.get(f"{PATH}/{'0' * 26}"), 404, "exception-unknown")
    problem(client.delete(f"{PATH}/{'0' * 26}"), 404, "exception-unknown")


def test_an_errand_is_taken_once_and_comes_back_when_its_taker_is_lost(store: Database) -> None:
    with store.write() as session:
        errands.add(session, ErrandKind.NOTIFY, "x")
    with store.read() as session:
        (one,) = errands.due(session)
    with store.write() as session:
        first = errands.take(session, one.id, ErrandKind.NOTIFY, 0.05)
        assert errands.take(session, one.id, ErrandKind.NOTIFY, 0.05) is None
        assert errands.take(session, one.id, ErrandKind.SIGN, 0.05) is None
    time.sleep(0.06)
    with store.write() as session:
        second = errands.take(session, one.id, ErrandKind.NOTIFY, 60)
        assert first is not None
        assert second is not None
        assert not errands.finish(session, first)
        assert errands.finish(session, second)
        assert errands.take(session, one.id, ErrandKind.NOTIFY, 60) is None


def test_an_errand_that_was_handed_out_is_handed_out_again_only_when_its_message_may_be_lost(store: Database) -> None:
    with store.write() as session:
        errands.add(session, ErrandKind.NOTIFY, "x")
        (one,) = errands.due(session)
        errands.mark_published(session, one.id)
        assert errands.due(session) == []
        assert errands.untaken(session, 60) == set()
        session.execute(update(type(one)).values(published_at=time.time() - 61))
        assert errands.untaken(session, 60) == {"errands"}
        assert errands.send_again(session, 60, ["release"]) == 0
        assert errands.send_again(session, 60, ["errands"]) == 1
        assert [found.id for found in errands.due(session)] == [one.id]
