"""Released images and everything that is known about them. What is named by digest never changes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from builder.api.access import Caller, Store
from builder.api.batches import Batches
from builder.api.conditional import MAY_CHANGE, NOT_MODIFIED, named_by, tagged
from builder.api.problems import documented
from builder.api.views import ImageView, RescanView, image_view, moment
from builder.errors import Problem
from builder.pipeline.rebuilding import image_unknown
from builder.store import attachments, findings
from builder.store.attachments import Kind
from builder.store.database import Database
from builder.store.schema import Attachment, Build, Record, Release

router = APIRouter(prefix="/v1/images", tags=["images"])

Digest = Annotated[str, Path(pattern="^sha256:[0-9a-f]{64}$", examples=["sha256:" + "5c" * 32])]
_ERRORS = {**documented(401, 404, 422, 503), **NOT_MODIFIED}


class SbomFormat(StrEnum):
    CYCLONEDX = "cyclonedx"
    SPDX = "spdx"


class ScanFormat(StrEnum):
    JSON = "json"
    SARIF = "sarif"


@router.get("/{digest}", summary="See a released image", responses=documented(401, 404, 422, 503))
def get_image(request: Request, digest: Digest, _: Caller, database: Store) -> ImageView:
    with database.read() as session:
        found = session.execute(
            select(Release, Build)
            .join(Build, Build.id == Release.build_id)
            .where(Release.digest == digest)
            .order_by(Release.released_at.desc())
            .limit(1)
        ).first()
        if found is None:
            raise image_unknown(digest)
        registry = request.app.state.settings.registry
        return image_view(found[0], found[1].evidence, registry, _rescan(session, digest))


@router.get(
    "/{digest}/provenance",
    summary="The signed SLSA provenance, as a Sigstore bundle",
    response_class=Response,
    responses=_ERRORS,
)
async def get_provenance(request: Request, digest: Digest, _: Caller) -> Response:
    return await _attachment(request, digest, Kind.PROVENANCE)


@router.get(
    "/{digest}/sbom",
    summary="The software bill of materials",
    response_class=Response,
    responses=_ERRORS,
)
async def get_sbom(
    request: Request,
    digest: Digest,
    _: Caller,
    form: Annotated[SbomFormat, Query(alias="format")] = SbomFormat.CYCLONEDX,
) -> Response:
    return await _attachment(request, digest, Kind.CYCLONEDX if form is SbomFormat.CYCLONEDX else Kind.SPDX)


@router.get("/{digest}/scan", summary="The scanner's report", response_class=Response, responses=_ERRORS)
async def get_scan(
    request: Request,
    digest: Digest,
    _: Caller,
    form: Annotated[ScanFormat, Query(alias="format")] = ScanFormat.JSON,
) -> Response:
    return await _attachment(request, digest, Kind.SARIF if form is ScanFormat.SARIF else Kind.SCAN)


@router.get(
    "/{digest}/inventory",
    summary="Every path of the image with its digest (JSON Lines, zstd)",
    response_class=Response,
    responses=_ERRORS,
)
async def get_inventory(request: Request, digest: Digest, _: Caller) -> Response:
    return await _attachment(request, digest, Kind.INVENTORY)


@router.get(
    "/{digest}/log",
    summary="The build's log up to signing (JSON Lines), which the provenance names by digest",
    response_class=Response,
    responses=_ERRORS,
)
async def get_log(request: Request, digest: Digest, _: Caller) -> Response:
    return await _attachment(request, digest, Kind.LOG)


@router.get("/{digest}/record", summary="The record of its release", response_class=Response, responses=_ERRORS)
def get_record(digest: Digest, _: Caller, database: Store) -> Response:
    with database.read() as session:
        record = session.scalars(
            # Comparisons are recorded too, under the image that they were made with.
            select(Record)
            .join(Release, Release.build_id == Record.build_id)
            .where(Record.image_digest == digest)
            .order_by(Record.number.desc())
            .limit(1)
        ).one_or_none()
        if record is None:
            raise image_unknown(digest)
        return tagged(record.body, "application/json", digest=record.digest)


def _rescan(session: Session, digest: str) -> RescanView | None:
    found = findings.rescan_of(session, digest)
    if found is None:
        return None
    above, new = findings.counts_above(session, digest)
    return RescanView(
        scanned_at=moment(found.scanned_at),
        database_digest=found.database_digest,
        above_policy=above,
        new_above_policy=new,
        problem=Problem.model_validate(found.problem) if found.problem else None,
    )


def finding_attachments(database: Database) -> Batches[tuple[str, Kind], Attachment | None]:
    """What there is of an image by kind, without its content: enough for whoever has that already."""

    def find(wanted: list[tuple[str, Kind]]) -> list[Attachment | None]:
        with database.read() as session:
            found = {(digest, kind): attachments.of_image(session, digest, kind) for digest, kind in set(wanted)}
        return [found[one] for one in wanted]

    return Batches(find)


async def _attachment(request: Request, digest: str, kind: Kind) -> Response:
    state = request.app.state
    finding: Batches[tuple[str, Kind], Attachment | None] = state.finding_attachments
    found = await finding.do((digest, kind))
    if found is None:
        raise image_unknown(digest)
    # The image's digest does not name it: a later release of the same image brings another.
    headers = {"ETag": f'"{found.blob_digest}"', "Cache-Control": MAY_CHANGE}
    if named_by(request.headers.getlist("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    content = await anyio.to_thread.run_sync(_content, state.database, found)
    return tagged(content, found.media_type, digest=found.blob_digest)


def _content(database: Database, found: Attachment) -> bytes:
    with database.read() as session:
        return attachments.content(session, found)
