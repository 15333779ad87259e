"""Builds: asked for, listed, followed, cancelled."""

from __future__ import annotations

import re
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select

from builder.api.access import Caller, Store
from builder.api.bodies import read_body
from builder.api.events import follow
from builder.api.problems import RequestInvalid, documented
from builder.api.views import BuildPage, BuildView, LogPage, build_view, log_line_view
from builder.errors import Fault
from builder.pipeline.submission import submit
from builder.recipes.catalogue import Catalogue
from builder.recipes.model import Recipe
from builder.recipes.reading import read_recipe, recipe_from_data
from builder.store import builds, journal
from builder.store.database import Database
from builder.store.schema import Build
from builder.store.states import State

router = APIRouter(prefix="/v1/builds", tags=["builds"])

_YAML = ("application/yaml", "text/yaml", "application/x-yaml")
_PAGE = 1000
_LAST_LINE = 2**31 - 1


class BuildRequest(BaseModel):
    """What to build: a recipe of the catalogue by its name, or a whole recipe."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"recipe": "web"}]})

    recipe: str | dict[str, Any] = Field(description="A name, or a recipe as a JSON object.")


@router.post(
    "",
    status_code=202,
    summary="Ask for a build",
    response_description="The build was taken in. `Location` is where to follow it.",
    responses=documented(400, 401, 404, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": BuildRequest.model_json_schema()},
                "application/yaml": {
                    "schema": {"type": "string", "description": "A recipe, its files embedded."},
                },
            },
        }
    },
)
async def create_build(request: Request, response: Response, requester: Caller, database: Store) -> BuildView:
    body = await read_body(request, ("application/json", *_YAML))

    def take_in() -> BuildView:
        catalogue: Catalogue = request.app.state.catalogue
        registry = request.app.state.settings.registry
        recipe, origin = _requested(body.media_type, body.content, catalogue)
        with database.write() as session:
            build = submit(session, catalogue, recipe, origin=origin, requester=requester, registry=registry)
            return build_view(build, [], registry)

    view = await anyio.to_thread.run_sync(take_in)
    response.headers["Location"] = f"/v1/builds/{view.id}"
    return view


@router.get("", summary="List builds, newest first", responses=documented(401, 422, 503))
def list_builds(
    request: Request,
    _: Caller,
    database: Store,
    recipe: Annotated[
        str | None, Query(max_length=63, pattern="^[a-z0-9-]*$", description="Only builds of this recipe.")
    ] = None,
    state: Annotated[State | None, Query(description="Only builds in this state.")] = None,
    before: Annotated[str | None, Query(pattern="^[0-9a-z]{26}$", description="Only builds older than this.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BuildPage:
    query = select(Build).order_by(Build.id.desc()).limit(limit + 1)
    if recipe is not None:
        query = query.where(Build.recipe_name == recipe)
    if state is not None:
        query = query.where(Build.state == state)
    if before is not None:
        query = query.where(Build.id < before)
    with database.read() as session:
        found = list(session.scalars(query))
        registry = request.app.state.settings.registry
        views = [build_view(build, journal.steps_of(session, build.id), registry) for build in found[:limit]]
    following = None
    if len(found) > limit:
        following = str(request.url.include_query_params(before=views[-1].id).replace(scheme="", netloc=""))
    return BuildPage(builds=views, next=following)


@router.get("/{build_id}", summary="See a build", responses=documented(401, 404, 503))
def get_build(request: Request, build_id: str, _: Caller, database: Store) -> BuildView:
    return _view(database, build_id, request.app.state.settings.registry)


@router.post(
    "/{build_id}/cancel",
    status_code=202,
    summary="Cancel a build",
    response_description="It ends within seconds; follow it to see when.",
    responses=documented(401, 404, 409, 503),
)
def cancel_build(request: Request, build_id: str, _: Caller, database: Store) -> BuildView:
    with database.write() as session:
        builds.request_cancel(session, build_id)
    return _view(database, build_id, request.app.state.settings.registry)


@router.get(
    "/{build_id}/logs",
    summary="Read or follow a build's log",
    response_model=None,
    responses={
        **documented(401, 404, 422, 503),
        200: {
            "description": "As plain text; as JSON pages; or live, as server-sent events named `log`, `step`, `state` "
            "and `end`, each with the line's number as its id, so that `Last-Event-ID` resumes.",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/json": {"schema": {"$ref": "#/components/schemas/LogPage"}},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        },
    },
)
def read_log(
    request: Request,
    build_id: str,
    _: Caller,
    database: Store,
    accept: Annotated[str, Header(include_in_schema=False)] = "text/plain",
    last_event_id: Annotated[str | None, Header(description="Follow from after this line.")] = None,
    after: Annotated[int, Query(ge=0, le=_LAST_LINE, description="Only lines after this number.")] = 0,
) -> Response:
    with database.read() as session:
        final = State(builds.get(session, build_id).state).final
    if "text/event-stream" in accept:
        start = _resume_point(last_event_id, after)
        registry = request.app.state.settings.registry
        return StreamingResponse(
            follow(database, build_id, start, registry),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    if "application/json" in accept:
        with database.read() as session:
            lines = journal.log_after(session, build_id, after, _PAGE)
            views = [log_line_view(line) for line in lines]
        more = len(views) == _PAGE or not final
        page = LogPage(lines=views, next=(views[-1].number if views else after) if more else None)
        return Response(page.model_dump_json(by_alias=True), media_type="application/json")
    return PlainTextResponse(_whole_log(database, build_id, after))


def _whole_log(database: Database, build_id: str, after: int) -> str:
    parts: list[str] = []
    with database.read() as session:
        while lines := journal.log_after(session, build_id, after, _PAGE):
            parts.extend(f"{line.step:<12} {line.text}\n" for line in lines)
            after = lines[-1].number
    return "".join(parts)


def _resume_point(last_event_id: str | None, after: int) -> int:
    if last_event_id is None:
        return after
    if not re.fullmatch("[0-9]{1,10}", last_event_id) or int(last_event_id) > _LAST_LINE:
        raise RequestInvalid("Last-Event-ID must be a number that an event of this stream had")
    return int(last_event_id)


def _view(database: Database, build_id: str, registry: str) -> BuildView:
    with database.read() as session:
        build = builds.get(session, build_id)
        return build_view(build, journal.steps_of(session, build_id), registry)


def _requested(media_type: str, content: bytes, catalogue: Catalogue) -> tuple[Recipe, str]:
    if media_type in _YAML:
        return read_recipe(content), "request"
    try:
        wanted = BuildRequest.model_validate_json(content)
    except ValidationError as error:
        faults = [
            Fault(field=".".join(str(part) for part in entry["loc"]) or None, message=entry["msg"])
            for entry in error.errors(include_input=False, include_url=False)
        ]
        raise RequestInvalid(
            "; ".join(str(fault) for fault in faults[:3]), errors=faults, hint='send {"recipe": "NAME"} or a recipe'
        ) from error
    if isinstance(wanted.recipe, str):
        return catalogue.get(wanted.recipe).recipe, "catalogue"
    return recipe_from_data(wanted.recipe), "request"
