"""Findings in released images, and another round of scans."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from builder.api.access import Caller, Store
from builder.api.idempotency import IdempotencyKey, Made, carried_out_once
from builder.api.identified import refuse_all_recipes
from builder.api.paging import next_page
from builder.api.problems import documented
from builder.api.views import View, instant, moment
from builder.errors import Problem
from builder.scanning.findings import Severity
from builder.store import errands, findings
from builder.store.database import Database
from builder.store.errands import ALL_RELEASES, ErrandKind
from builder.store.findings import Wanted
from builder.store.schema import Errand, Finding

router = APIRouter(prefix="/v1", tags=["findings"])


class FindingView(View):
    """A vulnerability of a released image, by the newest scan of its bill of materials."""

    id: int
    digest: str
    recipe: str
    vulnerability: str = Field(examples=["CVE-2023-4911"])
    package: str
    installed: str
    fixed: str | None
    severity: Severity
    purl: str | None
    above_policy: bool = Field(description="The policy that the image was released by would not allow it.")
    since_release: bool = Field(description="The scan before its release had not found it.")
    first_seen: datetime
    last_seen: datetime
    gone_at: datetime | None = Field(description="Since when no scan has found it any more.")
    database_digest: str
    exception: str | None = Field(description="The exception that holds for it.")


class FindingPage(View):
    findings: list[FindingView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


class RoundView(View):
    """A round of scans over all released images. Those for which nothing has changed are left as they are."""

    state: str = Field(examples=["queued"], description="queued, done, or failed, with a problem")
    requested_at: datetime
    finished_at: datetime | None
    problem: Problem | None


@router.get("/findings", summary="List findings in released images, newest first", responses=documented(401, 422, 503))
def list_findings(
    request: Request,
    _: Caller,
    database: Store,
    new: Annotated[bool | None, Query(description="Only what has come since the release, and is still there.")] = None,
    above_policy: Annotated[bool | None, Query(alias="abovePolicy", description="Only what must not be.")] = None,
    recipe: Annotated[str | None, Query(max_length=63, pattern="^[a-z0-9-]+$")] = None,
    digest: Annotated[str | None, Query(pattern="^sha256:[0-9a-f]{64}$")] = None,
    severity: Annotated[Severity | None, Query()] = None,
    vulnerability: Annotated[str | None, Query(max_length=64, pattern="^[!-~]+$")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**53, description="Only those older than this.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> FindingPage:
    wanted = Wanted(new, above_policy, recipe, digest, severity, vulnerability)
    with database.read() as session:
        found = findings.page(session, wanted, before=before, limit=limit + 1)
    views = [finding_view(one) for one in found[:limit]]
    following = None
    if len(found) > limit:
        following = next_page(request, before=views[-1].id)
    return FindingPage(findings=views, next=following)


@router.post(
    "/rescans",
    status_code=202,
    response_model=RoundView,
    summary="Scan released images again",
    responses=documented(401, 409, 422, 503),
)
async def create_rescan(request: Request, requester: Caller, database: Store, _: IdempotencyKey = None) -> Response:
    """Whoever asks while a round is due gets that one."""
    refuse_all_recipes(request)
    return await carried_out_once(request, requester, "", lambda: Made(_newest_round(database)))


def _newest_round(database: Database) -> RoundView:
    with database.write() as session:
        errands.add_once(session, ErrandKind.RESCAN, ALL_RELEASES)
        session.flush()
        found = errands.newest(session, ErrandKind.RESCAN)
        assert found is not None, "it was just added"
        return _round(found)


@router.get("/rescans", summary="The newest round of scans", responses=documented(401, 503))
def get_rescans(_: Caller, database: Store) -> RoundView | None:
    with database.read() as session:
        found = errands.newest(session, ErrandKind.RESCAN)
        return _round(found) if found is not None else None


def finding_view(row: Finding) -> FindingView:
    return FindingView(
        id=row.id,
        digest=row.image_digest,
        recipe=row.recipe_name,
        vulnerability=row.vulnerability,
        package=row.package,
        installed=row.installed,
        fixed=row.fixed,
        severity=Severity(row.severity),
        purl=row.purl,
        above_policy=row.above_policy,
        since_release=row.since_release,
        first_seen=instant(row.first_seen),
        last_seen=instant(row.last_seen),
        gone_at=moment(row.gone_at),
        database_digest=row.database_digest,
        exception=row.exception,
    )


def _round(errand: Errand) -> RoundView:
    ended = "failed" if errand.problem else "done"
    return RoundView(
        state="queued" if errand.done_at is None else ended,
        requested_at=instant(errand.created_at),
        finished_at=moment(errand.done_at),
        problem=Problem.model_validate(errand.problem) if errand.problem else None,
    )
