"""A build, followed live: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Self

import anyio
import anyio.to_thread

from builder.api.batches import Batches
from builder.api.views import BuildView, View, build_view, log_line_view, step_view
from builder.store import builds, journal
from builder.store.database import Database
from builder.store.following import Look, Place, look
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


class Follows:
    """All who follow builds look at the same moments, and one look at the database is for all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looks = Batches(self._look)

    async def follow(self, build_id: str, told: Told, registry: str) -> AsyncIterator[str]:
        """Events from where a stream has come to, until the build has ended."""
        spoke = time.monotonic()
        while True:
            look = await self._looks.do(Place(build_id, told.line))
            for line in look.lines:
                told = replace(told, line=line.number)
                yield _event("log", told, log_line_view(line))
            for number, step in enumerate(look.steps):
                letter = step.state[0]
                if told.steps[number : number + 1] != letter:
                    told = replace(told, steps=told.steps[:number] + letter + told.steps[number + 1 :])
                    yield _event("step", told, step_view(step))
            if look.state != told.state:
                told = replace(told, state=look.state)
                yield _event("state", told, {"state": look.state})
            if State(look.state).final and not look.lines:
                yield _event("end", told, await anyio.to_thread.run_sync(self._whole, build_id, registry))
                return
            if look.lines:
                spoke = time.monotonic()
                continue
            if time.monotonic() - spoke > _HEARTBEAT_SECONDS:
                spoke = time.monotonic()
                yield ": still here\n\n"
            await anyio.sleep(_POLL_SECONDS - time.monotonic() % _POLL_SECONDS)

    def _look(self, places: list[Place]) -> list[Look]:
        with self._database.read() as session:
            found = look(session, set(places))
        return [found[place] for place in places]

    def _whole(self, build_id: str, registry: str) -> BuildView:
        with self._database.read() as session:
            return build_view(builds.get(session, build_id), journal.steps_of(session, build_id), registry)


def _event(name: str, told: Told, data: View | dict[str, str]) -> str:
    text = json.dumps(data) if isinstance(data, dict) else data.model_dump_json(by_alias=True)
    return f"event: {name}\nid: {told}\ndata: {text}\n\n"
