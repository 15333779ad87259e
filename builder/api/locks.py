"""Locks, resolved without building anything."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from builder.api.access import Caller
from builder.api.asking import LockRequest, asked_lock, body_of, documented_body
from builder.api.builds import take_in
from builder.api.problems import documented
from builder.api.views import BuildView

router = APIRouter(prefix="/v1/locks", tags=["locks"])


@router.post(
    "",
    status_code=202,
    summary="Ask for a recipe's lock",
    response_description="A build that ends as `locked`. Its base is built first, if it has no release yet.",
    responses=documented(400, 401, 404, 413, 415, 422, 503),
    openapi_extra=documented_body(LockRequest),
)
async def create_lock(request: Request, response: Response, requester: Caller) -> BuildView:
    body = await body_of(request)

    def answer() -> BuildView:
        state = request.app.state
        return take_in(state.services, state.catalogue, asked_lock(body, state.catalogue, requester))

    view = await anyio.to_thread.run_sync(answer)
    response.headers["Location"] = f"/v1/builds/{view.id}"
    return view
