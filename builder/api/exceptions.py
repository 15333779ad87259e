"""Exceptions: asked for, listed, revoked, and a supplier's VEX document imported. Who may is the operator's to say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from builder.api.access import Caller, Store
from builder.api.bodies import read_body
from builder.api.idempotency import IdempotencyKey, Made, carried_out_once
from builder.api.identified import refuse_all_recipes, refuse_recipe
from builder.api.paging import next_page
from builder.api.problems import RequestInvalid, documented
from builder.api.views import View, moment
from builder.errors import Fault, Problem, Rejected
from builder.pipeline.excepting import Terms, exception_of, refuse_stranger, submit_exception, submit_import
from builder.pipeline.services import Services
from builder.policy.exceptions import (
    DigestScope,
    Justification,
    Owner,
    PackageScope,
    Reason,
    RecipeScope,
    Source,
    Status,
    VulnerabilityId,
)
from builder.registry.artifact import BUNDLE
from builder.store import exceptions as store
from builder.store.schema import ExceptionRow, VexDocument

router = APIRouter(prefix="/v1/exceptions", tags=["exceptions"])

Id = Annotated[str, Path(pattern="^[0-9a-z]{26}$")]


class ExceptionNotSigned(Rejected):
    slug = "exception-not-signed"
    title = "The exception is not signed yet, and does not count"
    status = 409


_Model = TypeVar("_Model", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ExceptionRequest(_Body):
    """What to except, where, until when, and who answers for it. A scope is needed: package, recipe or digest."""

    vulnerability: VulnerabilityId = Field(examples=["CVE-2023-4911"])
    package: PackageScope | None = Field(default=None, description="Its name or package URL.", examples=["libc6"])
    recipe: RecipeScope | None = None
    digest: DigestScope | None = Field(default=None, description="Of an image's manifest.")
    owner: Owner = Field(description="Who answers for it.", examples=["security@example.org"])
    reason: Reason
    expires: AwareDatetime
    status: Status = Field(default=Status.AFFECTED, description="In OpenVEX's words; `affected` is an accepted risk.")
    justification: Justification | None = Field(default=None, description="Of `not_affected` only.")


class ImportRequest(_Body):
    """A supplier's OpenVEX document, and who answers here for believing it. `recipe` and `digest` narrow it."""

    document: dict[str, Any]
    owner: Owner
    reason: Reason
    expires: AwareDatetime
    recipe: RecipeScope | None = None
    digest: DigestScope | None = None


class ExceptionView(View):
    id: str
    state: str = Field(
        examples=["active"],
        description="active; pending: not signed yet; refused: it could not be signed; EXPIRED; revoked. Only an "
        "active one counts.",
    )
    vulnerability: str
    package: str | None
    recipe: str | None
    digest: str | None
    owner: str
    reason: str
    status: Status
    justification: Justification | None
    source: Source
    created: datetime
    expires: datetime
    days_left: int = Field(description="Below zero once it has expired.")
    requester: str
    revoked_at: datetime | None
    revoked_by: str | None
    problem: Problem | None = Field(description="Why it could not be signed.")
    document_digest: str | None


class ExceptionPage(View):
    exceptions: list[ExceptionView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


class ImportView(View):
    exceptions: list[ExceptionView]
    left_out: list[str] = Field(description="What of the document does not count, and why.")


def _documented(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "",
    status_code=202,
    response_model=ExceptionView,
    summary="Except a vulnerability for a while",
    response_description="Taken in. It counts once the release worker has signed it.",
    responses=documented(400, 401, 403, 409, 413, 415, 422, 503),
    openapi_extra=_documented(ExceptionRequest),
)
async def create_exception(request: Request, requester: Caller, _: IdempotencyKey = None) -> Response:
    services: Services = request.app.state.services
    refuse_stranger(services, requester)
    body = await read_body(request, ("application/json",))
    asked = _parsed(ExceptionRequest, body.content)
    _refuse_wider(request, asked.recipe)

    def answer() -> Made:
        made = submit_exception(services, asked.model_dump(), requester=requester)
        return Made(_one(services, made.id), f"/v1/exceptions/{made.id}")

    return await carried_out_once(request, requester, body.digest, answer)


@router.post(
    "/imports",
    status_code=202,
    response_model=ImportView,
    summary="Import a supplier's OpenVEX document",
    description="Only `not_affected` and `fixed` count, for products that are packages named by their package URL.",
    responses=documented(400, 401, 403, 409, 413, 415, 422, 503),
    openapi_extra=_documented(ImportRequest),
)
async def import_document(request: Request, requester: Caller, _: IdempotencyKey = None) -> Response:
    services: Services = request.app.state.services
    refuse_stranger(services, requester)
    body = await read_body(request, ("application/json",))
    asked = _parsed(ImportRequest, body.content)
    _refuse_wider(request, asked.recipe)

    def answer() -> Made:
        scope = {name: value for name, value in (("recipe", asked.recipe), ("digest", asked.digest)) if value}
        terms = Terms(owner=asked.owner, reason=asked.reason, expires=asked.expires)
        made = submit_import(services, json.dumps(asked.document).encode(), terms, scope, requester=requester)
        views = [_one(services, one.id) for one in made.exceptions]
        return Made(ImportView(exceptions=views, left_out=list(made.left_out)))

    return await carried_out_once(request, requester, body.digest, answer)


@router.get("", summary="List exceptions, newest first", responses=documented(401, 422, 503))
def list_exceptions(
    request: Request,
    _: Caller,
    database: Store,
    vulnerability: Annotated[str | None, Query(max_length=64, pattern="^[!-~]+$")] = None,
    before: Annotated[str | None, Query(pattern="^[0-9a-z]{26}$", description="Only those older than this.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ExceptionPage:
    with database.read() as session:
        found = store.page(session, before=before, limit=limit + 1, vulnerability=vulnerability)
    views = [exception_view(row, document) for row, document in found[:limit]]
    following = None
    if len(found) > limit:
        following = next_page(request, before=views[-1].id)
    return ExceptionPage(exceptions=views, next=following)


@router.get("/{exception_id}", summary="See an exception", responses=documented(401, 404, 422, 503))
def get_exception(exception_id: Id, _: Caller, database: Store) -> ExceptionView:
    with database.read() as session:
        return exception_view(*store.get(session, exception_id))


@router.get(
    "/{exception_id}/document",
    summary="The signed OpenVEX document, as a Sigstore bundle",
    response_class=Response,
    responses=documented(401, 404, 409, 422, 503),
)
def get_document(exception_id: Id, _: Caller, database: Store) -> Response:
    with database.read() as session:
        _row, document = store.get(session, exception_id)
        if document.bundle_digest is None:
            raise ExceptionNotSigned(f"exception {exception_id} is {document.state}", hint="ask again in a moment")
        content, digest = store.content(session, document.bundle_digest), document.bundle_digest
    return Response(content, media_type=BUNDLE, headers={"ETag": f'"{digest}"'})


@router.delete("/{exception_id}", summary="Revoke an exception", responses=documented(401, 403, 404, 422, 503))
def revoke_exception(request: Request, exception_id: Id, requester: Caller, database: Store) -> ExceptionView:
    """From now on it does not count. What was released with it stays released, and is found by the next scans."""
    refuse_stranger(request.app.state.services, requester)
    with database.write() as session:
        _refuse_wider(request, exception_of(*store.get(session, exception_id)).recipe)
        store.revoke(session, exception_id, requester)
        return exception_view(*store.get(session, exception_id))


def exception_view(row: ExceptionRow, document: VexDocument) -> ExceptionView:
    one, now = exception_of(row, document), datetime.now(UTC)
    if row.revoked_at is not None:
        state = "revoked"
    elif one.expired(now):
        state = "EXPIRED"
    else:
        state = "active" if document.state == store.SIGNED else document.state
    return ExceptionView(
        **one.model_dump(exclude={"document_digest"}),
        state=state,
        days_left=(one.expires - now).days,
        requester=document.requester,
        revoked_at=moment(row.revoked_at),
        revoked_by=row.revoked_by,
        problem=Problem.model_validate(document.problem) if document.problem else None,
        document_digest=document.document_digest,
    )


def _refuse_wider(request: Request, recipe: str | None) -> None:
    """An exception that names no recipe holds for all of them. Raises RecipeNotAllowed."""
    if recipe is None:
        refuse_all_recipes(request)
    else:
        refuse_recipe(request, recipe)


def _one(services: Services, exception_id: str) -> ExceptionView:
    with services.database.read() as session:
        return exception_view(*store.get(session, exception_id))


def _parsed(model: type[_Model], content: bytes) -> _Model:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        faults = [
            Fault(field=".".join(map(str, entry["loc"])) or None, message=entry["msg"])
            for entry in error.errors(include_input=False, include_url=False)
        ]
        raise RequestInvalid("; ".join(str(fault) for fault in faults[:3]), errors=faults) from None
