"""Rebuilds: is a released image what its signed record gives, bit for bit?"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select

from builder.api.access import Caller, Store
from builder.api.asking import asked_rebuild, documented_rebuild
from builder.api.bodies import read_body
from builder.api.idempotency import IdempotencyKey, Made, carried_out_once
from builder.api.identified import identified, refuse_image
from builder.api.images import Digest
from builder.api.paging import next_page
from builder.api.problems import documented
from builder.api.views import BuildPage, BuildView, build_view
from builder.pipeline.rebuilding import refuse_elsewhere, submit_rebuild
from builder.pipeline.services import Services
from builder.store import journal
from builder.store.schema import Build
from builder.store.states import Purpose

router = APIRouter(prefix="/v1/images", tags=["rebuilds"])


@router.post(
    "/{digest}/rebuilds",
    status_code=202,
    response_model=BuildView,
    summary="Rebuild a released image and compare",
    response_description="A build that ends as `reproduced`, with an attestation, or as `failed`, naming what differs.",
    responses=documented(400, 401, 404, 409, 413, 415, 422, 503),
    openapi_extra=documented_rebuild(),
)
async def create_rebuild(request: Request, digest: Digest, requester: Caller, _: IdempotencyKey = None) -> Response:
    body = await read_body(request, ("application/json",))
    asked = asked_rebuild(body)
    services: Services = request.app.state.services

    def answer() -> Made:
        refuse_elsewhere(services, asked.registry)
        with services.database.read() as session:
            refuse_image(request, session, digest, asked.repository)
        build = submit_rebuild(
            services, digest, asked.repository,
            requester=requester, team=identified(request).team, offline=asked.offline,
        )  # fmt: skip
        return Made(build_view(build, [], services.settings.registry), f"/v1/builds/{build.id}")

    return await carried_out_once(request, requester, body.digest, answer)


@router.get("/{digest}/rebuilds", summary="The rebuilds of an image, newest first", responses=documented(401, 422, 503))
def list_rebuilds(
    request: Request,
    digest: Digest,
    _: Caller,
    database: Store,
    before: Annotated[str | None, Query(pattern="^[0-9a-z]{26}$", description="Only rebuilds older than this.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BuildPage:
    query = select(Build).where(Build.subject == digest, Build.purpose == Purpose.REBUILD)
    if before is not None:
        query = query.where(Build.id < before)
    query = query.order_by(Build.id.desc()).limit(limit + 1)
    registry = request.app.state.settings.registry
    with database.read() as session:
        found = list(session.scalars(query))
        views = [build_view(build, journal.steps_of(session, build.id), registry) for build in found[:limit]]
    following = None
    if len(found) > limit:
        following = next_page(request, before=views[-1].id)
    return BuildPage(builds=views, next=following)
