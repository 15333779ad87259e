"""A build, followed live: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread

from builder.api.views import BuildView, build_view, log_line_view
from builder.store import builds, journal
from builder.store.database import Database
from builder.store.schema import LogLine
from builder.store.states import State

_POLL_SECONDS = 0.25
_HEARTBEAT_SECONDS = 15.0


async def follow(database: Database, build_id: str, after: int, registry: str) -> AsyncIterator[str]:
    """Events from line `after` on, until the build has ended. The id of each is the last line's number so far."""
    seen_state = ""
    seen_steps: dict[int, str] = {}
    spoke = time.monotonic()
    while True:
        view, steps, lines = await anyio.to_thread.run_sync(_look, database, build_id, after, registry)
        for line in lines:
            after = line.number
            yield _event("log", after, log_line_view(line).model_dump(mode="json", by_alias=True))
        for number, step in enumerate(steps):
            if seen_steps.get(number) != step["state"]:
                seen_steps[number] = step["state"]
                yield _event("step", after, step)
        if view.state != seen_state:
            seen_state = view.state
            yield _event("state", after, {"state": view.state})
        if State(view.state).final and not lines:
            yield _event("end", after, view.model_dump(mode="json", by_alias=True))
            return
        if lines:
            spoke = time.monotonic()
            continue
        if time.monotonic() - spoke > _HEARTBEAT_SECONDS:
            spoke = time.monotonic()
            yield ": still here\n\n"
        await anyio.sleep(_POLL_SECONDS)


def _look(
    database: Database, build_id: str, after: int, registry: str
) -> tuple[BuildView, list[dict[str, Any]], list[LogLine]]:
    """One consistent look: lines are read with the state, so that the end never overtakes them."""
    with database.read() as session:
        build = builds.get(session, build_id)
        view = build_view(build, journal.steps_of(session, build_id), registry)
        lines = journal.log_after(session, build_id, after)
    return view, [step.model_dump(mode="json", by_alias=True) for step in view.steps], lines


def _event(name: str, number: int, data: dict[str, Any]) -> str:
    return f"event: {name}\nid: {number}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
