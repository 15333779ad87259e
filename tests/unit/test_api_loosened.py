"""A recipe that asks for less than the organisation demands is refused when it is sent: by field, values and policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from builder.settings import Settings
from builder.store.database import Database
from builder.store.schema import Build
from tests.unit.api import RECIPE, problem

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

POLICY = """\
apiVersion: goldsmith/v1
kind: Policy
metadata: {name: acme, version: '7'}
spec:
  rules:
    vulnerabilities: {maximumSeverity: low, maximumSeverityUnfixed: high}
    tests: {minimum: 2}
    imageSize: {maximumCompressedBytes: 1000}
    packages: {deny: [telnetd]}
  overrides:
    - recipes: [pay-*]
      rules: {baseAge: {maximumDays: 7}}
"""


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "policy.yaml").write_text(POLICY)
    return settings.model_copy(update={"policy": tmp_path / "policy.yaml"})


def recipe(policy: dict[str, Any], name: str = "own", base: dict[str, Any] | None = None) -> dict[str, Any]:
    spec = {"base": base or {"debian": {"suite": "trixie"}}, "publish": {"repository": f"mine/{name}"}}
    return {
        "apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": name}, "spec": {**spec, "policy": policy},
    }  # fmt: skip


def count(store: Database) -> int:
    with store.read() as session:
        return session.scalar(select(func.count()).select_from(Build)) or 0


@pytest.mark.parametrize("path", ["/v1/builds", "/v1/locks"])
@pytest.mark.parametrize(
    ("policy", "field", "message"),
    [
        ({"maximumSeverity": "medium"}, "maximumSeverity", "medium is looser than low"),
        ({"ignoreUnfixed": True}, "ignoreUnfixed", "true is looser than high at the most without a fix"),
        ({"allowSecrets": True}, "allowSecrets", "true is looser than false"),
        ({"rules": {"tests": {"minimum": 1}}}, "rules.tests.minimum", "1 is looser than 2"),
        ({"rules": {"tests": {}, "packages": {"deny": []}}}, "rules.packages.deny", "[] is looser than [telnetd]"),
        ({"rules": {"imageSize": {"maximumCompressedBytes": None}}}, "rules.imageSize.maximumCompressedBytes",
         "no limit is looser than 1000"),
        ({"rules": {"database": {"whenStale": "warn"}}}, "rules.database.whenStale", "warn is looser than fail"),
    ],
)  # fmt: skip
def test_it_is_told_field_both_values_and_policy_and_nothing_is_begun(
    client: TestClient, store: Database, path: str, policy: dict[str, Any], field: str, message: str
) -> None:
    told = problem(client.post(path, json={"recipe": recipe(policy)}), 422, "policy-loosened")
    (fault,) = told.errors
    assert fault.field == f"spec.policy.{field}"
    assert fault.message == f"{message}, which the policy acme 7 demands"
    assert fault.hint
    assert told.detail.startswith("recipe own: ")
    assert not told.retryable
    assert count(store) == 0


def test_every_field_is_told_at_once(client: TestClient) -> None:
    policy = {"maximumSeverity": "high", "allowSecrets": True, "rules": {"tests": {"minimum": 1}}}
    told = problem(client.post("/v1/builds", json={"recipe": recipe(policy)}), 422, "policy-loosened")
    assert [fault.field for fault in told.errors] == [
        "spec.policy.maximumSeverity", "spec.policy.allowSecrets", "spec.policy.rules.tests.minimum",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "policy",
    [
        {}, {"maximumSeverity": "none"}, {"maximumSeverity": "low"}, {"rules": {"tests": {"minimum": 3}}},
        {"rules": {"hermetic": {}, "packages": {"deny": ["telnetd", "perl"]}}},
    ],
)  # fmt: skip
def test_as_much_or_more_is_taken_in(client: TestClient, store: Database, policy: dict[str, Any]) -> None:
    assert client.post("/v1/builds", json={"recipe": recipe(policy)}).status_code == 202
    assert count(store) == 1


def test_what_is_demanded_of_some_recipes_holds_for_those(client: TestClient) -> None:
    asked = {"rules": {"baseAge": {"maximumDays": 30}}}
    assert client.post("/v1/builds", json={"recipe": recipe(asked)}).status_code == 202
    told = problem(client.post("/v1/builds", json={"recipe": recipe(asked, "pay-web")}), 422, "policy-loosened")
    assert told.errors[0].message == "30 is looser than 7, which the policy acme 7 demands"


@pytest.mark.parametrize("asked", ["laxer", recipe({}, base={"recipe": "laxer"})])
def test_a_recipe_of_the_service_is_held_to_it_too_and_all_that_stands_on_it(
    client: TestClient, settings: Settings, store: Database, asked: str | dict[str, Any]
) -> None:
    text = RECIPE.replace("NAME", "laxer") + "  policy: {allowSecrets: true}\n"
    (settings.recipes_directory / "laxer.yaml").write_text(text)
    told = problem(client.post("/v1/builds", json={"recipe": asked}), 422, "policy-loosened")
    assert told.detail.startswith("recipe laxer: spec.policy.allowSecrets: true is looser than false")
    assert count(store) == 0


def test_a_policy_with_a_typo_takes_nothing_in_and_is_the_operators_to_mend(
    client: TestClient, settings: Settings, store: Database
) -> None:
    assert settings.policy is not None
    settings.policy.write_text(POLICY.replace("tests:", "test:"))
    told = problem(client.post("/v1/builds", json={"recipe": recipe({})}), 500, "settings-invalid")
    assert "did you mean 'tests'?" in told.detail
    assert count(store) == 0
