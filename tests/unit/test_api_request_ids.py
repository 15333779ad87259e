"""Every answer says which request it is of, whoever asked and whatever came of it."""

from __future__ import annotations

import logging
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from builder.store import audit
from builder.store.database import Database

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


def test_an_id_that_was_sent_is_kept_and_is_in_the_audit_log(client: TestClient, store: Database) -> None:
    answer = client.post("/v1/builds", json={"recipe": "web"}, headers={"X-Request-Id": "job-42.a_B"})
    assert answer.headers["X-Request-Id"] == "job-42.a_B"
    with store.read() as session:
        assert audit.page(session)[0].request_id == "job-42.a_B"


@pytest.mark.parametrize("sent", [None, "", "x" * 65, "a b", "a;b", "é", "<script>"])
def test_another_is_replaced_by_one_of_our_own(client: TestClient, sent: str | None) -> None:
    headers = {} if sent is None else {"X-Request-Id": sent.encode()}
    ids = {client.get("/healthz", headers=headers).headers["X-Request-Id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{24}", one) for one in ids)


def test_refusals_have_one_too(anyone: TestClient) -> None:
    for answer in (anyone.get("/v1/builds"), anyone.get("/nowhere"), anyone.post("/healthz")):
        assert answer.status_code >= 400
        assert answer.headers["X-Request-Id"]


def test_what_broke_is_found_in_the_log_by_it(
    app: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    app.add_api_route("/broken", broken)
    with caplog.at_level(logging.ERROR):
        answer = client.get("/broken", headers={"X-Request-Id": "find-me"})
    assert answer.status_code == 500
    assert answer.headers["X-Request-Id"] == "find-me"
    assert "find-me" in answer.json()["hint"]
    assert "request find-me" in caplog.text
