"""`POST /v1/verifications`: what is asked is checked before anything is verified; a refusal is an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from builder.sandbox.state import State
from builder.store.database import Database
from tests.unit.api import problem
from tests.unit.evidence import digest
from tests.unit.releases import released

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

POLICY = {"apiVersion": "goldsmith/v1", "kind": "VerificationPolicy", "metadata": {"name": "t"}}
SIGNERS = [{"identity": "a@b.example", "issuer": "https://i.example"}]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "digest"),
        ({"digest": "latest"}, "digest"),
        ({"digest": digest("a"), "policy": "x"}, "policy"),
        ({"digest": digest("a"), "other": 1}, "other"),
    ],
)
def test_a_request_that_is_not_understood_names_the_field(client: TestClient, asked: Any, says: str) -> None:
    found = problem(client.post("/v1/verifications", json=asked), 422, "request-invalid")
    assert says in found.detail


def test_a_policy_with_a_mistake_is_refused(client: TestClient) -> None:
    asked = {"digest": digest("a"), "policy": {**POLICY, "spec": {"hermtic": True}}}
    found = problem(client.post("/v1/verifications", json=asked), 422, "verification-policy-invalid")
    assert [one.field for one in found.errors] == ["spec.hermtic"]


def test_a_request_names_no_file_of_the_server(client: TestClient) -> None:
    asked = {"digest": digest("a"), "policy": {**POLICY, "spec": {"trustedRoot": "/etc/shadow"}}}
    found = problem(client.post("/v1/verifications", json=asked), 422, "verification-policy-invalid")
    assert [one.field for one in found.errors] == ["spec.trustedRoot"]


def test_an_image_that_was_not_released_is_not_known(client: TestClient) -> None:
    assert client.post("/v1/verifications", json={"digest": digest("a")}).status_code == 404


def test_without_a_key_nothing_is_verified(anyone: TestClient) -> None:
    assert anyone.post("/v1/verifications", json={"digest": digest("a")}).status_code == 401


def test_an_image_without_a_signature_is_not_verified(
    app: FastAPI, client: TestClient, store: Database, tmp_path: Path
) -> None:
    released(store, "a")
    with State(tmp_path / "sandbox", "http://sandbox.invalid"):
        trust = tmp_path / "sandbox" / "client_trust_config.json"
    app.state.services.settings = app.state.settings.model_copy(update={"sigstore_trust_config": trust})
    asked = {"digest": digest("a"), "policy": {**POLICY, "spec": {"signers": SIGNERS}}}
    told = client.post("/v1/verifications", json=asked).json()
    assert told["verified"] is False
    assert [one["detail"] for one in told["checks"] if not one["passed"]] == [
        f"no signature is attached to registry.example:5000/golden/web@{digest('a')}"
    ]
