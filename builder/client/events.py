"""Server-sent events (WHATWG HTML, section 9.2), and what those of a build's log mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from builder.client.errors import AnswerUnexpected
from builder.client.models import Build, LogLine, Step

_MAX_EVENT = 8 * 1024 * 1024


@dataclass(frozen=True)
class ServerSentEvent:
    """An event as it came; `id` is the last one that the stream has given so far."""

    name: str
    id: str
    data: str


@dataclass(frozen=True)
class Logged:
    line: LogLine


@dataclass(frozen=True)
class StepChanged:
    step: Step


@dataclass(frozen=True)
class StateChanged:
    state: str


@dataclass(frozen=True)
class Ended:
    build: Build


Event = Logged | StepChanged | StateChanged | Ended


def read_events(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """The events in a stream, however it is cut into chunks. An event that is not complete at the end is dropped.

    Raises AnswerUnexpected for an event of more than 8 MiB.
    """
    name, data, size, last_id = "", list[str](), 0, ""
    for line in _lines(chunks):
        if not line:
            if data:
                yield ServerSentEvent(name or "message", last_id, "\n".join(data))
            name, data, size = "", [], 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
            size += len(value) + 1
            if size > _MAX_EVENT:
                raise _too_long()
        elif field == "id" and "\0" not in value:
            last_id = value


def meaning(event: ServerSentEvent) -> Event | None:
    """None for an event that is not known here: a newer server may send more. Raises AnswerUnexpected."""
    try:
        if event.name == "log":
            content: dict[str, Any] = json.loads(event.data)
            return Logged(LogLine.model_validate({**content, "number": int(event.id.partition(".")[0])}))
        if event.name == "step":
            return StepChanged(Step.model_validate_json(event.data))
        if event.name == "state":
            return StateChanged(str(json.loads(event.data)["state"]))
        if event.name == "end":
            return Ended(Build.model_validate_json(event.data))
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        raise AnswerUnexpected(f"the API sent a {event.name!r} event that cannot be read") from error
    return None


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines end at LF, CR LF or CR and nothing else: a log line may well hold U+0085 or U+2028."""
    rest, first = b"", True
    for chunk in chunks:
        rest += chunk
        # A CR at the very end may be half of a CR LF.
        held = b"\r" if rest.endswith(b"\r") else b""
        whole = rest[: len(rest) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = whole.split(b"\n")
        rest += held
        if len(rest) > _MAX_EVENT:
            raise _too_long()
        for line in lines:
            text = line.decode("utf-8", "replace")
            yield text.removeprefix("\ufeff") if first else text
            first = False
    # Nothing came after the CR that was held back: it did end a line.
    if rest.endswith(b"\r"):
        yield rest[:-1].decode("utf-8", "replace")


def _too_long() -> AnswerUnexpected:
    return AnswerUnexpected(f"the API sent an event of more than {_MAX_EVENT} bytes")
