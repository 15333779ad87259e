"""Waiting for the end of builds: however many wait, one look at the database is for all of them."""

from __future__ import annotations

import logging
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import Query

from builder.store import builds
from builder.store.database import Database, DatabaseUnavailable

_LOOK_SECONDS = 0.25
_LONGEST = 60.0
# Far below what SQLite and PostgreSQL take as parameters of one statement.
_AT_ONCE = 500

log = logging.getLogger("goldsmith.api")

Wait = Annotated[
    int,
    Query(ge=0, le=60, description="Answer once the build has ended, or after so many seconds with what is then."),
]


class Endings:
    """Whoever waits holds neither a thread nor a session. `longest`, in seconds, bounds each wait."""

    def __init__(self, database: Database, *, longest: float = _LONGEST) -> None:
        self._database = database
        self._longest = longest
        self._waiting: dict[str, set[anyio.Event]] = {}

    async def wait(self, build_id: str, seconds: float) -> None:
        ended = anyio.Event()
        waiting = self._waiting.setdefault(build_id, set())
        waiting.add(ended)
        try:
            with anyio.move_on_after(min(seconds, self._longest)):
                await ended.wait()
        finally:
            waiting.discard(ended)
            if not waiting and self._waiting.get(build_id) is waiting:
                del self._waiting[build_id]

    async def watch(self) -> None:
        """Looks for as long as the service runs."""
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            asked = list(self._waiting)
            for start in range(0, len(asked), _AT_ONCE):
                try:
                    ended = await anyio.to_thread.run_sync(self._look, asked[start : start + _AT_ONCE])
                except DatabaseUnavailable as error:
                    log.warning("nobody is told of an end while the database is away: %s", error)
                    break
                for build_id in ended:
                    for one in self._waiting.get(build_id, ()):
                        one.set()

    def _look(self, build_ids: list[str]) -> set[str]:
        with self._database.read() as session:
            return builds.ended(session, build_ids)
