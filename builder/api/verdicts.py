"""The verdict on a build's image, for programs and for people."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from builder import __version__
from builder.api.access import Caller, Store
from builder.api.negotiating import wanted_form
from builder.api.problems import documented
from builder.errors import Rejected
from builder.forensics.forms import MEDIA_TYPES, Form
from builder.forensics.page import page_policy
from builder.pipeline.evidence import ReleaseEvidence, ScanEvidence
from builder.store import builds, journal
from builder.store.schema import Build, Step
from builder.verdicts.markdown import markdown_text
from builder.verdicts.page import page_text
from builder.verdicts.report import VerdictReport, verdict_report

router = APIRouter(prefix="/v1", tags=["verdicts"])


class VerdictUnavailable(Rejected):
    slug = "verdict-unavailable"
    title = "The build has no verdict"
    status = 409


class VerdictForm(StrEnum):
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


@router.get(
    "/builds/{build_id}/verdict",
    summary="What passed, what failed, why, and what would make it pass",
    response_model=None,
    responses={
        **documented(401, 404, 409, 422, 503),
        200: {
            "description": "JSON, or as `format` or `Accept` ask.",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/VerdictReport"}},
                "text/markdown": {"schema": {"type": "string"}},
                "text/html": {"schema": {"type": "string"}},
            },
        },
    },
)
def get_verdict(
    build_id: str,
    _: Caller,
    database: Store,
    accept: Annotated[str, Header(include_in_schema=False)] = "application/json",
    form: Annotated[VerdictForm | None, Query(alias="format")] = None,
) -> Response:
    with database.read() as session:
        build = builds.get(session, build_id)
        report = _report(build, journal.steps_of(session, build.id))
    # No verdict is written as SARIF.
    chosen = Form(form) if form is not None else wanted_form(accept.replace("application/sarif+json", ""))
    headers = {"Vary": "Accept", "X-Content-Type-Options": "nosniff", "X-Goldsmith-Version": __version__}
    if chosen is Form.HTML:
        headers["Content-Security-Policy"] = page_policy()
        return Response(page_text(report), media_type=MEDIA_TYPES[chosen], headers=headers)
    if chosen is Form.MARKDOWN:
        return Response(markdown_text(report), media_type=MEDIA_TYPES[chosen], headers=headers)
    return Response(report.json_text(), media_type="application/json", headers=headers)


def _report(build: Build, steps: list[Step]) -> VerdictReport:
    if "scan" not in build.evidence:
        raise VerdictUnavailable(
            f"build {build.id} is {build.state} and was not judged", hint="`goldsmith show` says how far it came"
        )
    scanned = ScanEvidence.model_validate(build.evidence["scan"])
    released = build.evidence.get("release")
    judged = [step.finished_at for step in steps if step.name == "gate" and step.finished_at is not None]
    return verdict_report(
        scanned.verdict,
        build=build.id,
        recipe=build.recipe_name,
        state=build.state,
        scanner=scanned.scanner,
        database=scanned.database,
        judged_at=datetime.fromtimestamp(max(judged), UTC) if judged else None,
        attestations=ReleaseEvidence.model_validate(released).attestations if released else {},
        now=datetime.now(UTC),
    )
