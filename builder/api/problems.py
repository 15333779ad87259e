"""Every failure a caller can meet, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import builder
from builder.api.rates import RateLimited
from builder.api.request_ids import HEADER, id_of, told_of
from builder.errors import Broken, Fault, GoldsmithError, Problem, Rejected, storage_full

MEDIA_TYPE = "application/problem+json"
_NOT_OURS = ("builder.cli", "builder.client", "builder.sandbox")
log = logging.getLogger("goldsmith.api")


class RequestInvalid(Rejected):
    slug = "request-invalid"
    title = "The request is not valid"
    status = 422


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    if problem.retryable:
        headers = {"Retry-After": "5", **(headers or {})}
    return JSONResponse(problem.model_dump(mode="json"), problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Turn every exception into a problem; none reaches the caller in another form."""

    @app.exception_handler(GoldsmithError)
    async def known(request: Request, error: GoldsmithError) -> JSONResponse:
        if isinstance(error, Broken):
            log.error("request %s: %s %s: %s", told_of(request), request.method, request.url.path, error)
        headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else None
        if isinstance(error, RateLimited):
            headers = {"Retry-After": str(error.retry_after)}
        return problem_response(error.problem(instance=request.url.path), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [
            Fault(field=".".join(str(part) for part in entry["loc"]), message=_told(entry))
            for entry in error.errors()[:20]
        ]
        told = RequestInvalid("; ".join(str(fault) for fault in faults[:3]), errors=faults)
        return problem_response(told.problem(instance=request.url.path))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        phrase = HTTPStatus(error.status_code).phrase
        detail = str(error.detail)
        if error.status_code == HTTPStatus.NOT_FOUND:
            detail = f"there is nothing at {request.url.path}"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is not allowed at {request.url.path}"
        problem = Problem(
            type="about:blank", title=phrase, status=error.status_code, detail=detail, instance=request.url.path
        )
        return problem_response(problem, dict(error.headers) if error.headers else None)

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> JSONResponse:
        full = storage_full(error)
        if full is None:
            raise error
        log.error("request %s: %s %s: %s", id_of(request), request.method, request.url.path, error)
        return problem_response(full.problem(instance=request.url.path))

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.exception("request %s: %s %s broke", told_of(request), request.method, request.url.path, exc_info=error)
        told = Broken("the request could not be carried out", hint=f"the service's log says why: {id_of(request)}")
        # Sent from outside of all middleware.
        return problem_response(told.problem(instance=request.url.path), {HEADER: id_of(request)})


def _told(entry: dict[str, Any]) -> str:
    """What a part of the request breaks, in our words where Pydantic's hide what was sent."""
    if entry["type"] == "string_pattern_mismatch":
        return f"{str(entry['input'])[:60]!r} does not match {entry['ctx']['pattern']}"
    return str(entry["msg"])


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route, for the OpenAPI document. Who must be known must have the scope, too, and
    may not ask too often."""
    if HTTPStatus.UNAUTHORIZED in statuses:
        statuses = tuple(sorted({*statuses, HTTPStatus.FORBIDDEN.value, HTTPStatus.TOO_MANY_REQUESTS.value}))
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def known_problems() -> dict[str, type[GoldsmithError]]:
    """Every problem type by its slug; also those of the stages, which builds carry."""
    _import_the_domain()
    found: dict[str, type[GoldsmithError]] = {}
    pending: list[type[GoldsmithError]] = [GoldsmithError]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        if kind.__module__.startswith("builder."):  # a plugin's or a test's own are not documented here
            found.setdefault(kind.slug, kind)
    return found


@cache
def _import_the_domain() -> None:
    """A problem is known once the module of its class is imported."""
    for module in pkgutil.walk_packages(builder.__path__, "builder."):
        if not module.name.startswith(_NOT_OURS):
            importlib.import_module(module.name)
