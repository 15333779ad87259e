"""Writes the audit log: an answer that belongs into it goes out once it is in it."""

from __future__ import annotations

import time
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from builder.api.batches import Batches
from builder.api.identified import Identified
from builder.api.problems import problem_response
from builder.api.scopes import ROUTES
from builder.store import audit
from builder.store.callers import AuditEntry
from builder.store.database import Database, DatabaseUnavailable

_STRANGERS = 60
_LIMITED = HTTPStatus.TOO_MANY_REQUESTS
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Auditing:
    """Middleware. In the log is what changed something or was to, what was read of evidence, and who was refused.

    Of callers without a known key at most 60 a minute are written, and of a known one that asks too often the first
    such answer of a minute: nobody must be able to fill the database with refusals.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._minute = 0.0
        self._strangers = 0
        self._limited: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        answered = refused = False

        async def recording(message: Message) -> None:
            nonlocal answered, refused
            if message["type"] == "http.response.start":
                answered = True
                try:
                    await self._record(scope, message["status"], Headers(raw=message.get("headers", [])))
                except DatabaseUnavailable as error:
                    refused = True
                    await problem_response(error.problem(instance=scope["path"]))(scope, receive, send)
            if not refused:
                await send(message)

        try:
            await self._app(scope, receive, recording)
        except Exception:
            if not answered:
                await self._record(scope, HTTPStatus.INTERNAL_SERVER_ERROR, Headers())
            raise

    async def _record(self, scope: Scope, status: int, answer: Headers) -> None:
        action = f"{scope['method']} {getattr(scope.get('route'), 'path_format', '')}"
        needs = ROUTES.get(action)
        if needs is None or not needs.scopes:
            return
        changing = scope["method"] not in ("GET", "HEAD")
        key: Identified | None = scope["state"].get("key")
        if not (changing or needs.audited or status in _REFUSED):
            return
        if self._too_many_strangers() if key is None else status == _LIMITED and self._told(key.name):
            return
        made = answer.get("location", "").rpartition("/")[2]
        entry = AuditEntry(
            at=time.time(),
            key_id=key.id if key else None,
            caller=key.name if key else None,
            action=action,
            subject=_line(" ".join([*map(str, scope.get("path_params", {}).values()), made]).strip(), 200),
            status=int(status),
            request_id=scope["state"].get("request_id"),
        )
        writing: Batches[AuditEntry, None] = scope["app"].state.writing_audit
        await writing.do(entry)

    def _too_many_strangers(self) -> bool:
        self._begin_minute()
        self._strangers += 1
        return self._strangers > _STRANGERS

    def _told(self, caller: str) -> bool:
        self._begin_minute()
        if caller in self._limited:
            return True
        self._limited.add(caller)
        return False

    def _begin_minute(self) -> None:
        now = time.monotonic()
        if now - self._minute >= 60:
            self._minute, self._strangers = now, 0
            self._limited.clear()


def writing_audit(database: Database) -> Batches[AuditEntry, None]:
    """Many entries in one commit, each waited for: to wait for the disk once for all of them is what makes it fast."""

    def write(entries: list[AuditEntry]) -> list[None]:
        with database.write() as session:
            audit.append(session, entries)
        return [None] * len(entries)

    return Batches(write)


def _line(text: str, most: int) -> str:
    """What came from outside, as one line that every database takes."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])
