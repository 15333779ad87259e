"""Requests that are carried out once, however often they are sent (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import anyio.to_thread
from fastapi import Header, Request, Response
from pydantic import BaseModel

from builder.api.problems import RequestInvalid
from builder.api.turns import Turns
from builder.settings import Settings
from builder.store import idempotency
from builder.store.database import Database, DatabaseUnavailable
from builder.store.idempotency import Answered, Asked, RequestUnderWay

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
# Longer than any request for a build takes; whoever was killed in one is over then.
_LEASE_SECONDS = 120.0
# Gigabytes go to the registry first.
_UPLOAD_LEASE_SECONDS = 1800.0
# How long to wait for an answer is not part of what is asked for.
_NOT_THE_REQUEST = ("wait",)

log = logging.getLogger("goldsmith.api")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        max_length=202,
        pattern=r'^(?:[!#-\[\]-~]{1,200}|"[!#-\[\]-~]{1,200}")$',
        description="Any text of up to 200 visible ASCII characters, such as a UUID, in quotes or without. The same "
        "request with the same key is carried out once, and answered alike, for as long as the service keeps the key.",
        examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
    ),
]


@dataclass(frozen=True)
class Made:
    """What came of a request: the view that is sent, and where it is to be found."""

    view: BaseModel
    location: str | None = None
    status: int = 202


async def carried_out_once(
    request: Request, caller: str, digest: str, work: Callable[[], Made], *, turns: Turns | None = None
) -> Response:
    """What `work`, in a thread of its own, makes of a request whose body has this digest; or what it made before. Work
    that waits for others than the service's own parts has its `turns`.

    What is made and the answer to it are kept in one transaction, so no crash comes in between. Raises RequestInvalid,
    KeyReused, RequestUnderWay, TooManyAtOnce, and what `work` raises: then the key is free again.
    """

    def once() -> Response:
        return _once(request, caller, digest, work, together=True)

    return await (turns.run(caller, once) if turns is not None else anyio.to_thread.run_sync(once))


async def uploaded_once(request: Request, caller: str, digest: str, work: Callable[[], Made]) -> Response:
    """The same for work that must commit half way: after a crash just then, the same request is carried out anew."""
    return await anyio.to_thread.run_sync(lambda: _once(request, caller, digest, work, together=False))


def _once(request: Request, caller: str, digest: str, work: Callable[[], Made], *, together: bool) -> Response:
    given = request.headers.getlist(HEADER)
    if not given:
        return _response(_answered(work()))
    if len(given) > 1:
        raise RequestInvalid(f"header.{HEADER}: it was sent {len(given)} times", hint="send one")
    settings: Settings = request.app.state.settings
    database: Database = request.app.state.database
    lease = _LEASE_SECONDS if together else _UPLOAD_LEASE_SECONDS
    asked = Asked(caller, given[0].strip().strip('"'), _fingerprint(request, digest))
    with database.write() as session:
        kept = settings.idempotency_hours * 3600
        turn = idempotency.begin(session, asked, lease_seconds=lease, kept_seconds=kept)
    if isinstance(turn, Answered):
        return _response(turn, replayed=True)
    try:
        if together:
            with database.together():
                answered = _answered(work())
                with database.write() as session:
                    idempotency.remember(session, turn, answered)
            return _response(answered)
        answered = _answered(work())
    except BaseException:
        # Who cannot be told now is let in again when the lease is over.
        with suppress(DatabaseUnavailable), database.write() as session:
            idempotency.forget(session, turn)
        raise
    try:
        with database.write() as session:
            idempotency.remember(session, turn, answered)
    except (DatabaseUnavailable, RequestUnderWay) as error:
        log.warning("an answer could not be kept for its Idempotency-Key: %s", error)
    return _response(answered)


def _fingerprint(request: Request, digest: str) -> str:
    query = sorted((name, value) for name, value in request.query_params.multi_items() if name not in _NOT_THE_REQUEST)
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    parts: list[Any] = [request.method, request.url.path, query, media_type, digest]
    return f"sha256:{hashlib.sha256(repr(parts).encode()).hexdigest()}"


def _answered(made: Made) -> Answered:
    return Answered(made.status, made.location, made.view.model_dump_json(by_alias=True))


def _response(answered: Answered, *, replayed: bool = False) -> Response:
    headers = {"Location": answered.location} if answered.location else {}
    if replayed:
        headers[REPLAYED] = "true"
    return Response(answered.body, answered.status, headers, "application/json")
