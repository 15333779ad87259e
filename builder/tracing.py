"""W3C trace context: a request's trace goes with the build that it asks for into the logs of all workers."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may say more after what we know.
_HEADER = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.ASCII)

# The id of the trace that this thread or task is part of: 32 hex digits, None outside of any.
current_trace: ContextVar[str | None] = ContextVar("trace", default=None)


class TracedLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that says which trace each message belongs to."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        trace = current_trace.get()
        return (msg if trace is None else f"{msg} [trace {trace}]"), kwargs


def trace_of(header: str) -> str:
    """The trace's id in a `traceparent` header, or a new one if it is none."""
    found = _read(header)
    return secrets.token_hex(16) if found is None else found[2]


def parent_of(header: str) -> str | None:
    """The id of the caller's span in a `traceparent` header: 16 hex digits."""
    found = _read(header)
    return None if found is None else found[3]


def _read(header: str) -> re.Match[str] | None:
    found = _HEADER.fullmatch(header)
    return None if found is None or (found[1] == "00" and found[4] is not None) else found
