"""Builds: asked for, listed, followed, cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from sqlalchemy import select

from builder.api.access import Caller, Store
from builder.api.asking import BuildRequest, asked_build, body_of, documented_body, git_turns
from builder.api.events import LAST_LINE, Follows, Told
from builder.api.idempotency import REPLAYED, IdempotencyKey, Made, carried_out_once
from builder.api.identified import identified, refuse_asked, refuse_existing
from builder.api.paging import next_page
from builder.api.precedence import refuse_precedence
from builder.api.problems import RequestInvalid, documented
from builder.api.views import BuildPage, BuildView, LogPage, build_view, log_line_view
from builder.api.waiting import Endings, Wait
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
from builder.store.states import Purpose, State

router = APIRouter(prefix="/v1/builds", tags=["builds"])

_PAGE = 1000


@router.post(
    "",
    status_code=202,
    response_model=BuildView,
    summary="Ask for a build",
    response_description="The build was taken in. `Location` is where to follow it.",
    responses={
        **documented(400, 401, 404, 409, 413, 415, 422, 503),
        200: {"description": "The same inputs were released before: the build that did.", "model": BuildView},
    },
    openapi_extra=documented_body(BuildRequest),
)
async def create_build(request: Request, requester: Caller, wait: Wait = 0, _: IdempotencyKey = None) -> Response:
    body = await body_of(request)

    def answer() -> Made:
        services: Services = request.app.state.services
        catalogue: Catalogue = request.app.state.catalogue
        asked = asked_build(body, catalogue, services.git, requester)
        refuse_asked(request, asked)
        refuse_precedence(request, requester, asked.priority)
        refuse_looser(services.policy, asked.recipe.metadata.name, asked.recipe.spec.policy)
        if asked.purpose is Purpose.RELEASE and not asked.force and not asked.update:
            before = _answered(services, catalogue, asked)
            if before is not None:
                return Made(before, f"/v1/builds/{before.id}", 200)
        one = identified(request)
        view = take_in(services, catalogue, replace(asked, identity=one.identity, team=one.team))
        return Made(view, f"/v1/builds/{view.id}")

    answered = await carried_out_once(request, requester, body.digest, answer, turns=git_turns(request, body))
    if wait:
        view = await _awaited(request, answered.headers["Location"].rpartition("/")[2], wait)
        answered = Response(
            view.model_dump_json(by_alias=True), answered.status_code, _kept(answered.headers), "application/json"
        )
    return answered


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
        following = next_page(request, before=views[-1].id)
    return BuildPage(builds=views, next=following)


@router.get("/{build_id}", summary="See a build", responses=documented(401, 404, 422, 503))
async def get_build(request: Request, build_id: str, _: Caller, wait: Wait = 0) -> BuildView:
    return await _awaited(request, build_id, wait)


@router.get("/{build_id}/lock", summary="The lock that a build made or used", responses=documented(401, 404, 409, 503))
def get_lock(build_id: str, _: Caller, database: Store) -> dict[str, Any]:
    with database.read() as session:
        return lock_data(lock_of(builds.get(session, build_id)))


@router.post(
    "/{build_id}/cancel",
    status_code=202,
    summary="Cancel a build",
    response_description="It ends within seconds; follow it to see when.",
    responses=documented(401, 403, 404, 409, 503),
)
def cancel_build(request: Request, build_id: str, _: Caller, database: Store) -> BuildView:
    with database.write() as session:
        refuse_existing(request, session, builds.get(session, build_id))
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
            "and `end`, each with an id that says how far it has come: `Last-Event-ID` resumes, nothing is lost or "
            "told twice.",
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
    last_event_id: Annotated[str | None, Header(description="Follow from after this event or line.")] = None,
    after: Annotated[int, Query(ge=0, le=LAST_LINE, description="Only lines after this number.")] = 0,
) -> Response:
    with database.read() as session:
        final = State(builds.get(session, build_id).state).final
    if "text/event-stream" in accept:
        start = _resume_point(last_event_id, after)
        registry = request.app.state.settings.registry
        follows: Follows = request.app.state.follows
        return StreamingResponse(
            follows.follow(build_id, start, registry),
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


def _resume_point(last_event_id: str | None, after: int) -> Told:
    if last_event_id is None:
        return Told(after)
    told = Told.parse(last_event_id)
    if told is None:
        raise RequestInvalid("Last-Event-ID must be what an event of this stream had, or a line's number")
    return told


async def _awaited(request: Request, build_id: str, wait: int) -> BuildView:
    """The build once it has ended, or as it is after so many seconds. Raises BuildUnknown."""
    look = partial(_view, request.app.state.database, build_id, request.app.state.settings.registry)
    view = await anyio.to_thread.run_sync(look)
    if not wait or State(view.state).final:
        return view
    endings: Endings = request.app.state.endings
    await endings.wait(build_id, wait)
    return await anyio.to_thread.run_sync(look)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in ("Location", REPLAYED) if name in headers}


def _view(database: Database, build_id: str, registry: str) -> BuildView:
    with database.read() as session:
        build = builds.get(session, build_id)
        return build_view(build, journal.steps_of(session, build_id), registry)


def take_in(services: Services, catalogue: Catalogue, asked: Asked) -> BuildView:
    """Raises what `submit` raises."""
    settings = services.settings
    house = House(settings.registry, settings.network_steps, services.policy, settings.waiting_builds)
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
