"""Builds that came to nothing, asked for again."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from builder.api.access import Caller
from builder.api.idempotency import IdempotencyKey, Made, carried_out_once
from builder.api.identified import identified, refuse_existing
from builder.api.problems import documented
from builder.api.views import BuildView, build_view
from builder.pipeline.retrying import retry
from builder.pipeline.services import Services
from builder.store import builds

router = APIRouter(prefix="/v1/builds", tags=["builds"])


@router.post(
    "/{build_id}/retry",
    status_code=202,
    response_model=BuildView,
    summary="Retry a build that failed or was cancelled",
    response_description="A new build of the same recipe and lock. `Location` is where to follow it.",
    responses=documented(401, 404, 409, 422, 503),
)
async def retry_build(request: Request, build_id: str, requester: Caller, _: IdempotencyKey = None) -> Response:
    """Recipe, lock and options are as they were then; who asks now is the requester; `retryOf` names the old one."""
    services: Services = request.app.state.services

    def answer() -> Made:
        with services.database.read() as session:
            refuse_existing(request, session, builds.get(session, build_id))
        one = identified(request)
        build = retry(
            services, request.app.state.catalogue, build_id,
            requester=requester, team=one.team, identity=one.identity,
        )  # fmt: skip
        return Made(build_view(build, [], services.settings.registry), f"/v1/builds/{build.id}")

    return await carried_out_once(request, requester, "", answer)
