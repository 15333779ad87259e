"""A build, followed live: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Self

import anyio
import anyio.to_thread

from builder.api.views import BuildView, build_view, log_line_view
from builder.store import builds, journal
from builder.store.database import Database
from builder.store.schema import LogLine
from builder.store.states import State

_POLL_SECONDS = 0.25
_HEARTBEAT_SECONDS = 15.0
LAST_LINE = 2**31 - 1
_ID = re.compile(r"([0-9]{1,10})(?:\.([rdfl]{0,1000})\.([a-z]{0,16}))?", re.ASCII)


@dataclass(frozen=True)
class Told:
    """How far a stream has come: the last line's number, the first letter of each step's state, the build's state.

    It is the id of each event, `42.ddr.building`, so that whoever comes back, after whatever, is told the rest and
    nothing twice. A number alone is a place, too.
    """

    line: int = 0
    steps: str = ""
    state: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        found = _ID.fullmatch(text)
        if found is None or int(found[1]) > LAST_LINE:
            return None
        return cls(int(found[1]), found[2] or "", found[3] or "")

    def __str__(self) -> str:
        return f"{self.line}.{self.steps}.{self.state}"


async def follow(database: Database, build_id: str, told: Told, registry: str) -> AsyncIterator[str]:
    """Events from where a stream has come to, until the build has ended."""
    spoke = time.monotonic()
    while True:
        view, steps, lines = await anyio.to_thread.run_sync(_look, database, build_id, told.line, registry)
        for line in lines:
            told = replace(told, line=line.number)
            yield _event("log", told, log_line_view(line).model_dump(mode="json", by_alias=True))
        for number, step in enumerate(steps):
            letter = step["state"][0]
            if told.steps[number : number + 1] != letter:
                told = replace(told, steps=told.steps[:number] + letter + told.steps[number + 1 :])
                yield _event("step", told, step)
        if view.state != told.state:
            told = replace(told, state=view.state)
            yield _event("state", told, {"state": view.state})
        if State(view.state).final and not lines:
            yield _event("end", told, view.model_dump(mode="json", by_alias=True))
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


def _event(name: str, told: Told, data: dict[str, Any]) -> str:
    return f"event: {name}\nid: {told}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
