"""What the API says of itself, to whoever it knows: its OpenAPI document, and what a problem means."""

from __future__ import annotations

import inspect
import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from builder.api.access import Caller
from builder.api.conditional import NOT_MODIFIED, tagged
from builder.api.problems import documented, known_problems
from builder.errors import GoldsmithError, Rejected

router = APIRouter(tags=["service"])


class ProblemUnknown(Rejected):
    slug = "problem-unknown"
    title = "There is no such problem type"
    status = 404


@router.get(
    "/openapi.json",
    summary="This document",
    response_model=dict[str, Any],
    responses={**documented(401, 503), **NOT_MODIFIED},
)
def get_document(request: Request, _: Caller) -> Response:
    """The OpenAPI document of the version that runs."""
    return tagged(json.dumps(request.app.openapi()).encode(), "application/json")


@router.get(
    "/problems/{slug}", summary="What a problem means", response_class=PlainTextResponse, responses=documented(401, 404)
)
def get_problem(slug: str, _: Caller) -> Response:
    kind: type[GoldsmithError] | None = known_problems().get(slug)
    if kind is None:
        raise ProblemUnknown(f"there is no problem type {slug[:60]!r}", hint="see docs/problems.md")
    doc = inspect.getdoc(kind) if "__doc__" in vars(kind) else None
    retry = "A retry can help." if kind.retryable else "A retry of the same request does not help."
    return PlainTextResponse(
        f"{kind.title}\n\n{(doc + chr(10) * 2) if doc else ''}HTTP status {kind.status}. {retry}\n"
    )
