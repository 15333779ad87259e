"""The OpenAPI document, finished: models that routes only refer to, scopes, limits, examples and links."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from builder.api.bounds import HeadersTooLarge, TargetTooLong
from builder.api.examples import LINKS, REQUESTS
from builder.api.problems import documented
from builder.api.scopes import ROUTES
from builder.api.views import LogPage
from builder.errors import Problem
from builder.verdicts.report import VerdictReport

# What any request can meet before a route has it.
_BOUNDS = (TargetTooLong, HeadersTooLarge)


def describe(app: FastAPI) -> None:
    """Have the application's document made whole, once."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _finish(made())
        return made()

    app.openapi = openapi  # type: ignore[method-assign]


def _finish(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["responses"] = {kind.__name__: documented(kind.status)[kind.status] for kind in _BOUNDS}
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    for action, operation in operations.items():
        needs = ROUTES.get(action)
        if needs is not None and needs.scopes:
            # Roles, as OpenAPI 3.1 has them for bearer tokens: one of these is enough.
            operation["security"] = [{"HTTPBearer": [scope.value]} for scope in needs.scopes]
        # FastAPI's own is not what is sent.
        if "application/json" in operation["responses"].get("422", {}).get("content", {}):
            del operation["responses"]["422"]
        for kind in _BOUNDS:
            operation["responses"][str(kind.status)] = {"$ref": f"#/components/responses/{kind.__name__}"}
    for action, requests in REQUESTS.items():
        content = operations[action]["requestBody"]["content"]["application/json"]
        content["examples"] = {name: {"value": value} for name, value in requests.items()}
    for action, status, parameter, pointer, targets in LINKS:
        response = operations[action]["responses"][str(status)]
        for target in targets:
            name = operations[target]["operationId"]
            response.setdefault("links", {})[name] = {
                "operationId": name, "parameters": {parameter: f"$response.body#{pointer}"},
            }  # fmt: skip
    for model in (Problem, LogPage, VerdictReport):
        schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
