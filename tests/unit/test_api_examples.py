"""Each example of the OpenAPI document is what the document says, and is understood when it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from builder.api.app import create_app
from builder.api.examples import LINKS, REQUESTS
from builder.api.scopes import ROUTES
from builder.settings import Settings

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

DOCUMENT = create_app(Settings(database_url="sqlite://")).openapi()
SENT = [(action, name, body) for action, bodies in REQUESTS.items() for name, body in bodies.items()]
# What says that a request was not understood.
NOT_UNDERSTOOD = {"request-invalid", "recipe-invalid", "parameter-invalid", "policy-invalid", "body-too-large"}


def operation(action: str) -> dict[str, Any]:
    method, _, path = action.partition(" ")
    found: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return found


def inner(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and all that are in it."""
    yield schema
    for value in schema.values():
        for one in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
            if isinstance(one, dict):
                yield from inner(one)


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def with_examples() -> list[tuple[dict[str, Any], Any]]:
    """Every schema that has examples, with each of them."""
    roots = [*DOCUMENT["components"]["schemas"].values()]
    for methods in DOCUMENT["paths"].values():
        for one in methods.values():
            roots += [parameter["schema"] for parameter in one.get("parameters", ())]
            roots += [content["schema"] for content in one.get("requestBody", {}).get("content", {}).values()]
    found = [(schema, root) for root in roots for schema in inner(root) if isinstance(schema.get("examples"), list)]
    return [
        ({**schema, "$defs": root.get("$defs", {})}, value) for schema, root in found for value in schema["examples"]
    ]


def test_each_value_that_a_field_shows_is_one_that_it_takes() -> None:
    shown = with_examples()
    assert len(shown) > 60
    for schema, value in shown:
        validator(schema).validate(value)


@pytest.mark.parametrize(("action", "name", "body"), SENT, ids=[f"{action}: {name}" for action, name, _ in SENT])
def test_each_request_that_is_shown_is_understood(client: TestClient, action: str, name: str, body: Any) -> None:
    content = operation(action)["requestBody"]["content"]["application/json"]
    assert content["examples"][name] == {"value": body}
    validator(content["schema"]).validate(body)
    method, _, path = action.partition(" ")
    answer = client.request(method, path.format(digest="sha256:" + "5c" * 32), json=body)
    assert str(answer.status_code) in operation(action)["responses"], answer.text
    if answer.is_error:
        assert answer.json()["type"].rpartition("/")[2] not in NOT_UNDERSTOOD, answer.text


def test_every_route_that_takes_json_shows_a_request() -> None:
    takes = {
        action for action in ROUTES
        if "application/json" in operation(action).get("requestBody", {}).get("content", {})
    }  # fmt: skip
    assert set(REQUESTS) == takes


@pytest.mark.parametrize("link", LINKS, ids=[f"{link[0]} {link[1]}" for link in LINKS])
def test_each_link_leads_from_a_documented_answer_to_a_parameter_there_is(
    link: tuple[str, int, str, str, tuple[str, ...]],
) -> None:
    action, status, parameter, pointer, targets = link
    answer = operation(action)["responses"][str(status)]
    assert len(answer["links"]) >= len(targets)
    for target in targets:
        told = answer["links"][operation(target)["operationId"]]
        assert told["parameters"] == {parameter: f"$response.body#{pointer}"}
        assert parameter in {one["name"] for one in operation(target)["parameters"] if one["in"] == "path"}
