"""Comparisons: asked for with an image or an upload, seen, listed, and their reports."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy import select

from builder import __version__
from builder.api.access import Caller, Store
from builder.api.asking import ComparisonRequest, asked_comparison
from builder.api.bodies import read_body
from builder.api.idempotency import IdempotencyKey, Made, carried_out_once, uploaded_once
from builder.api.identified import identified, refuse_build
from builder.api.images import Digest
from builder.api.negotiating import wanted_form
from builder.api.paging import next_page
from builder.api.problems import RequestInvalid, documented
from builder.api.uploading import media_type_of, uploaded
from builder.api.views import ComparisonPage, ComparisonView, comparison_view
from builder.errors import Rejected
from builder.forensics.forms import MEDIA_TYPES, Form, rendered
from builder.forensics.page import page_policy
from builder.forensics.report import Report
from builder.pipeline.comparing import released_by, submit_image, submit_upload
from builder.pipeline.evidence import ComparedSubject
from builder.pipeline.services import Services
from builder.pipeline.uploads import UPLOADED
from builder.store import attachments, builds, journal
from builder.store.attachments import Kind
from builder.store.builds import BuildUnknown
from builder.store.database import Database
from builder.store.schema import Build
from builder.store.states import Purpose

router = APIRouter(tags=["comparisons"])

_JSON = "application/json"
_DIGEST = "^sha256:[0-9a-f]{64}$"
Golden = Annotated[str | None, Query(pattern=_DIGEST, description="The golden image, by its manifest's digest.")]
Before = Annotated[str | None, Query(pattern="^[0-9a-z]{26}$", description="Only comparisons older than this.")]
Limit = Annotated[int, Query(ge=1, le=100)]


class ReportUnavailable(Rejected):
    slug = "report-unavailable"
    title = "The comparison has no report"
    status = 409


def _documented_body() -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    asked = {"schema": ComparisonRequest.model_json_schema(by_alias=True)}
    return {"requestBody": {"required": True, "content": {_JSON: asked, **dict.fromkeys(UPLOADED, binary)}}}


@router.post(
    "/v1/comparisons",
    status_code=202,
    response_model=ComparisonView,
    summary="Compare an image, an inventory or a root file system with a golden image",
    description="JSON names an image in this service's registry. An upload is an inventory or a tar archive; "
    "`golden` then stands in the query. It is read, never extracted, and not kept.",
    response_description="The comparison was taken in. It is a build: follow it as one.",
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 502, 503),
    openapi_extra=_documented_body(),
)
async def create_comparison(
    request: Request,
    requester: Caller,
    golden: Golden = None,
    name: Annotated[
        str | None, Query(min_length=1, max_length=200, description="What the report calls an upload.")
    ] = None,
    _: IdempotencyKey = None,
) -> Response:
    services: Services = request.app.state.services
    media_type = media_type_of(request, (_JSON, *UPLOADED))
    if media_type == _JSON:
        body = await read_body(request, (_JSON,))
        asked = asked_comparison(body)

        def answer() -> Made:
            refuse_build(request, released_by(services, asked.golden))
            image, team = asked.subject.image, identified(request).team
            return _made(submit_image(services, asked.golden, image, requester=requester, team=team))

        return await carried_out_once(request, requester, body.digest, answer)
    if golden is None:
        raise RequestInvalid("query.golden: an upload needs the golden image's digest", hint="add ?golden=sha256:…")
    return await _from_upload(request, golden, media_type, name, requester)


def _made(build: Build) -> Made:
    return Made(comparison_view(build, []), f"/v1/comparisons/{build.id}")


async def _from_upload(request: Request, golden: str, media_type: str, name: str | None, requester: str) -> Response:
    services: Services = request.app.state.services
    # Before gigabytes are sent for nothing.
    refuse_build(request, await anyio.to_thread.run_sync(released_by, services, golden))
    async with uploaded(request, services.uploads, services.settings.comparison_bytes) as upload:
        subject = ComparedSubject(kind=UPLOADED[media_type], digest=upload.digest, name=name, size=upload.size)

        def answer() -> Made:
            team = identified(request).team
            return _made(submit_upload(services, golden, upload.file, subject, requester=requester, team=team))

        return await uploaded_once(request, requester, upload.digest, answer)


@router.get("/v1/comparisons", summary="List comparisons, newest first", responses=documented(401, 422, 503))
def list_comparisons(
    request: Request, _: Caller, database: Store, golden: Golden = None, before: Before = None, limit: Limit = 20
) -> ComparisonPage:
    return _page(request, database, golden, before, limit)


@router.get(
    "/v1/images/{digest}/comparisons",
    summary="The comparisons with an image, newest first",
    responses=documented(401, 422, 503),
)
def list_comparisons_of_image(
    request: Request, digest: Digest, _: Caller, database: Store, before: Before = None, limit: Limit = 20
) -> ComparisonPage:
    return _page(request, database, digest, before, limit)


@router.get("/v1/comparisons/{comparison_id}", summary="See a comparison", responses=documented(401, 404, 503))
def get_comparison(comparison_id: str, _: Caller, database: Store) -> ComparisonView:
    with database.read() as session:
        build = _comparison(builds.get(session, comparison_id))
        return comparison_view(build, journal.steps_of(session, build.id))


@router.get(
    "/v1/comparisons/{comparison_id}/report",
    summary="The report of a comparison",
    response_model=None,
    responses={
        **documented(401, 404, 409, 422, 503),
        200: {
            "description": "JSON (docs/formats/comparison.md), or as `format` or `Accept` ask. It never changes.",
            "content": {
                _JSON: {"schema": {"type": "object"}},
                **{MEDIA_TYPES[form]: {"schema": {"type": "string"}} for form in Form if form is not Form.JSON},
            },
        },
    },
)
def get_report(
    comparison_id: str,
    _: Caller,
    database: Store,
    accept: Annotated[str, Header(include_in_schema=False)] = _JSON,
    form: Annotated[Form | None, Query(alias="format")] = None,
) -> Response:
    with database.read() as session:
        build = _comparison(builds.get(session, comparison_id))
        found = attachments.find(session, build.id, Kind.COMPARISON)
        if found is None:
            raise ReportUnavailable(f"comparison {build.id} is {build.state}", hint="follow it to its end")
        digest, content = found.blob_digest, attachments.content(session, found)
    chosen = form or wanted_form(accept)
    if chosen is Form.JSON:
        return Response(content, media_type=_JSON, headers={"ETag": f'"{digest}"', "Vary": "Accept"})
    headers = {
        # Made anew each time, by whichever version answers.
        "ETag": f'"{digest}.{chosen}.{__version__}"',
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
    }
    if chosen is Form.HTML:
        headers["Content-Security-Policy"] = page_policy()
    text = rendered(Report.model_validate_json(content), chosen)
    return Response(text, media_type=MEDIA_TYPES[chosen], headers=headers)


def _comparison(build: Build) -> Build:
    if build.purpose != Purpose.COMPARE:
        raise BuildUnknown(f"build {build.id} is no comparison", hint="its purpose says what it is")
    return build


def _page(request: Request, database: Database, golden: str | None, before: str | None, limit: int) -> ComparisonPage:
    query = select(Build).where(Build.purpose == Purpose.COMPARE).order_by(Build.id.desc()).limit(limit + 1)
    if golden is not None:
        query = query.where(Build.subject == golden)
    if before is not None:
        query = query.where(Build.id < before)
    with database.read() as session:
        found = list(session.scalars(query))
        views = [comparison_view(build, journal.steps_of(session, build.id)) for build in found[:limit]]
    following = None
    if len(found) > limit:
        following = next_page(request, before=views[-1].id)
    return ComparisonPage(comparisons=views, next=following)
