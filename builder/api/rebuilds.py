"""Rebuilds: is a released image what its signed record gives, bit for bit?"""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from builder.api.access import Caller, Store
from builder.api.asking import asked_rebuild, documented_rebuild
from builder.api.bodies import read_body
from builder.api.images import Digest
from builder.api.problems import documented
from builder.api.views import BuildPage, BuildView, build_view
from builder.pipeline.rebuilding import refuse_elsewhere, submit_rebuild
from builder.pipeline.services import Services
from builder.store import journal
from builder.store.schema import Build
from builder.store.states import Purpose

router = APIRouter(prefix="/v1/images", tags=["rebuilds"])

_MOST = 100


@router.post(
    "/{digest}/rebuilds",
    status_code=202,
    summary="Rebuild a released image and compare",
    response_description="A build that ends as `reproduced`, with an attestation, or as `failed`, naming what differs.",
    responses=documented(400, 401, 404, 413, 415, 422, 503),
    openapi_extra=documented_rebuild(),
)
async def create_rebuild(request: Request, response: Response, digest: Digest, requester: Caller) -> BuildView:
    asked = asked_rebuild(await read_body(request, ("application/json",)))
    services: Services = request.app.state.services

    def answer() -> BuildView:
        refuse_elsewhere(services, asked.registry)
        build = submit_rebuild(services, digest, asked.repository, requester=requester, offline=asked.offline)
        return build_view(build, [], services.settings.registry)

    view = await anyio.to_thread.run_sync(answer)
    response.headers["Location"] = f"/v1/builds/{view.id}"
    return view


@router.get("/{digest}/rebuilds", summary="The rebuilds of an image, newest first", responses=documented(401, 422, 503))
def list_rebuilds(request: Request, digest: Digest, _: Caller, database: Store) -> BuildPage:
    of_image = select(Build).where(Build.subject == digest, Build.purpose == Purpose.REBUILD)
    query = of_image.order_by(Build.id.desc()).limit(_MOST)
    registry = request.app.state.settings.registry
    with database.read() as session:
        found = list(session.scalars(query))
        views = [build_view(build, journal.steps_of(session, build.id), registry) for build in found]
    return BuildPage(builds=views, next=None)
