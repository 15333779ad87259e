"""Locks, resolved without building anything."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from builder.api.access import Caller
from builder.api.asking import LockRequest, asked_lock, body_of, documented_body, git_turns
from builder.api.builds import take_in
from builder.api.idempotency import IdempotencyKey, Made, carried_out_once
from builder.api.identified import identified, refuse_asked
from builder.api.problems import documented
from builder.api.views import BuildView

router = APIRouter(prefix="/v1/locks", tags=["locks"])


@router.post(
    "",
    status_code=202,
    response_model=BuildView,
    summary="Ask for a recipe's lock",
    response_description="A build that ends as `locked`. Its base is built first, if it has no release yet.",
    responses=documented(400, 401, 404, 409, 413, 415, 422, 503),
    openapi_extra=documented_body(LockRequest),
)
async def create_lock(request: Request, requester: Caller, _: IdempotencyKey = None) -> Response:
    body = await body_of(request)

    def answer() -> Made:
        state = request.app.state
        asked = asked_lock(body, state.catalogue, state.services.git, requester)
        refuse_asked(request, asked)
        one = identified(request)
        view = take_in(state.services, state.catalogue, replace(asked, identity=one.identity, team=one.team))
        return Made(view, f"/v1/builds/{view.id}")

    return await carried_out_once(request, requester, body.digest, answer, turns=git_turns(request, body))
