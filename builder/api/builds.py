"""Builds: asked for, listed, followed, cancelled."""

from __future__ import annotations

import re
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from sqlalchemy import select

from builder.api.access import Caller, Store
from builder.api.asking import BuildRequest, asked_build, body_of, documented_body
from builder.api.events import follow
from builder.api.problems import RequestInvalid, documented
from builder.api.views import BuildPage, BuildView, LogPage, build_view, log_line_view
from builder.errors import GoldsmithError, Rejected
from builder.pipeline.evidence import BuildEvidence
from builder.pipeline.services import Services
from builder.pipeline.standing import stands
from builder.pipeline.submission import Asked, House, submit
from builder.pipeline.unchanged import answering_release, still_there
from builder.planning.lock import Lock
from builder.planning.lockfile import lock_data
from builder.policy.effective import refuse_looser
from builder.recipes.catalogue import Catalogue
from builder.store import builds, journal
from builder.store.database import Database
from builder.store.schema import Build
from builder.store.states import State

router = APIRouter(prefix="/v1/builds", tags=["builds"])

_PAGE = 1000
_LAST_LINE = 2**31 - 1


@router.post(
    "",
    status_code=202,
    summary="Ask for a build",
    response_description="The build was taken in. `Location` is where to follow it.",
    responses={
        **documented(400, 401, 404, 409, 413, 415, 422, 503),
        200: {"description": "The same inputs were released before: the build that did.", "model": BuildView},
    },
    openapi_extra=documented_body(BuildRequest),
)
async def create_build(request: Request, response: Response, requester: Caller) -> BuildView:
    body = await body_of(request)

    def answer() -> tuple[BuildView, bool]:
        services: Services = request.app.state.services
        catalogue: Catalogue = request.app.state.catalogue
        asked = asked_build(body, catalogue, requester)
        refuse_looser(services.policy, asked.recipe.metadata.name, asked.recipe.spec.policy)
        if not asked.force and not asked.update:
            before = _answered(services, catalogue, asked)
            if before is not None:
                return before, False
        return take_in(services, catalogue, asked), True

    view, taken_in = await anyio.to_thread.run_sync(answer)
    response.headers["Location"] = f"/v1/builds/{view.id}"
    if not taken_in:
        response.status_code = 200
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


@router.get("/{build_id}/lock", summary="The lock that a build made or used", responses=documented(401, 404, 409, 503))
def get_lock(build_id: str, _: Caller, database: Store) -> dict[str, Any]:
    with database.read() as session:
        return lock_data(lock_of(builds.get(session, build_id)))


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


class LockUnavailable(Rejected):
    slug = "lock-unavailable"
    title = "The build has no lock yet"
    status = 409


def lock_of(build: Build) -> Lock:
    """What a build was given, what it resolved, or what it was for. Raises LockUnavailable."""
    if "build" in build.evidence:
        return BuildEvidence.model_validate(build.evidence["build"]).lock
    if "lock" in build.evidence:
        return Lock.model_validate(build.evidence["lock"])
    if build.lock is not None:
        return Lock.model_validate_json(build.lock)
    raise LockUnavailable(f"build {build.id} is {build.state} and has resolved nothing", hint="follow it to its end")


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


def take_in(services: Services, catalogue: Catalogue, asked: Asked) -> BuildView:
    """Raises what `submit` raises."""
    settings = services.settings
    house = House(settings.registry, settings.network_steps, services.policy)
    with services.database.write() as session:
        return build_view(submit(session, catalogue, house, asked), [], settings.registry)


def _answered(services: Services, catalogue: Catalogue, asked: Asked) -> BuildView | None:
    """The build whose release answers a request, if today's policy lets it pass and the registry still has it. In
    doubt there is none."""
    settings = services.settings
    with services.database.read() as session:
        release = answering_release(
            session, catalogue, asked.recipe, asked.lock, settings.registry, settings.index_minutes * 60
        )
    if release is None:
        return None
    try:
        there = stands(services, release, asked.recipe) and still_there(services, services.impatient_registry, release)
    except GoldsmithError:
        return None
    return _view(services.database, release.build_id, settings.registry) if there else None
