"""Releases as auditors look for them, as pages of JSON or whole as JSON Lines or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, Field

from builder.api.access import Caller, Store
from builder.api.conditional import tagged
from builder.api.paging import next_page
from builder.api.problems import documented
from builder.api.views import View, instant
from builder.store import provenance
from builder.store.components import PackageWanted
from builder.store.database import Database
from builder.store.provenance import Place, Recorded, ReleasesWanted

router = APIRouter(prefix="/v1", tags=["provenance"])

# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ExportForm(StrEnum):
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class RecordedView(View):
    """A release and where its evidence is. `record` is its number in the ledger, `record_digest` what it is of."""

    record: int
    record_digest: str
    digest: str = Field(examples=["sha256:" + "5c" * 32])
    reference: str = Field(examples=["registry.example:5000/golden/web@sha256:" + "5c" * 32])
    recipe: str
    recipe_digest: str
    requester: str
    released_at: datetime
    tags: list[str]
    build: str


class ProvenancePage(View):
    releases: list[RecordedView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


def _wanted(
    recipe: Annotated[str | None, Query(max_length=63, pattern="^[a-z0-9-]+$")] = None,
    digest: Annotated[str | None, Query(pattern="^sha256:[0-9a-f]{64}$")] = None,
    requester: Annotated[str | None, Query(max_length=100, description="Whose API key asked for it.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Released then or later (RFC 3339).")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Released before then (RFC 3339).")] = None,
    package: Annotated[
        str | None,
        Query(
            max_length=511,
            pattern="^[!-~]+$",
            description="NAME or NAME@VERSION, of a binary or a source package; the version whole, or upstream's.",
            examples=["openssl@3.0.15"],
        ),
    ] = None,
    finding: Annotated[
        str | None, Query(max_length=100, pattern="^[!-~]+$", description="A vulnerability, such as CVE-2023-4911.")
    ] = None,
) -> ReleasesWanted:
    return ReleasesWanted(
        recipe=recipe,
        digest=digest,
        requester=requester,
        since=since.timestamp() if since else None,
        until=until.timestamp() if until else None,
        package=PackageWanted.parse(package) if package else None,
        finding=finding,
    )


@router.get(
    "/provenance",
    summary="Find releases by recipe, image, time, requester, package or finding, newest first",
    response_model=ProvenancePage,
    responses={
        **documented(401, 422, 503),
        200: {
            "description": "A page; or everything, as `format` asks.",
            "content": {"application/jsonl": {"schema": {}}, "text/csv": {"schema": {"type": "string"}}},
        },
        304: {"description": "The page is what `If-None-Match` names."},
    },
)
def find_releases(
    request: Request,
    _: Caller,
    database: Store,
    wanted: Annotated[ReleasesWanted, Depends(_wanted)],
    form: Annotated[
        ExportForm, Query(alias="format", description="`jsonl` and `csv` have everything, without pages.")
    ] = ExportForm.JSON,
    after: Annotated[
        str | None,
        Query(
            pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?-[0-9a-z]{26}$",
            description="Where a page begins, from the `next` of the one before.",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """The same question always gets the same releases in the same order; what is released since comes first."""
    if form is not ExportForm.JSON:
        return _export(form, database, wanted)
    with database.read() as session:
        place = _place(after) if after else None
        found = provenance.page(session, wanted, after=place, limit=limit + 1)
    following = None
    if len(found) > limit:
        following = next_page(request, after=_cursor(found[limit - 1].place))
    page = ProvenancePage(releases=[_view(one) for one in found[:limit]], next=following)
    return tagged(page.model_dump_json(by_alias=True).encode(), "application/json")


def _export(form: ExportForm, database: Database, wanted: ReleasesWanted) -> Response:
    def rows() -> Iterator[RecordedView]:
        for one in provenance.every(database, wanted):
            yield _view(one)

    lines, media_type = (
        (_json_lines(rows()), "application/jsonl") if form is ExportForm.JSONL else (_csv(rows()), "text/csv")
    )
    name = f'attachment; filename="provenance.{form}"'
    return StreamingResponse(lines, media_type=media_type, headers={"Content-Disposition": name})


def _json_lines(rows: Iterable[RecordedView]) -> Iterator[str]:
    for row in rows:
        yield row.model_dump_json(by_alias=True) + "\n"


def _csv(rows: Iterable[RecordedView]) -> Iterator[str]:
    """RFC 4180, with a header."""
    yield _csv_line(list(RecordedView.model_json_schema(by_alias=True)["properties"]))
    for row in rows:
        values = row.model_dump(mode="json", by_alias=True)
        yield _csv_line([" ".join(value) if isinstance(value, list) else str(value) for value in values.values()])


def _csv_line(values: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([f"'{value}" if value.startswith(_FORMULA) else value for value in values])
    return line.getvalue()


def _view(one: Recorded) -> RecordedView:
    release = one.release
    return RecordedView(
        record=one.number,
        record_digest=one.digest,
        digest=release.digest,
        reference=f"{release.registry_host}/{release.repository}@{release.digest}",
        recipe=release.recipe_name,
        recipe_digest=release.recipe_digest,
        requester=release.requester,
        released_at=instant(release.released_at),
        tags=release.tags,
        build=release.build_id,
    )


def _cursor(place: Place) -> str:
    return f"{place.released_at!r}-{place.build_id}"


def _place(cursor: str) -> Place:
    """Of what has the form."""
    released_at, _, build_id = cursor.partition("-")
    return Place(float(released_at), build_id)
