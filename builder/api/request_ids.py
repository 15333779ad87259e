"""Each request has an id: the caller's own, or else one made here. It is in the answer, the audit log and our logs.

It is part of a trace, too: the caller's, by W3C trace context, or one of its own.
"""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from builder.api.headers import header
from builder.logs import current_request
from builder.tracing import current_trace, trace_of

HEADER = "X-Request-Id"
# What is safe in any log; another is not worth a refusal.
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class RequestIds:
    """Middleware, the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        own = given if _SANE.fullmatch(given) else secrets.token_hex(12)
        state = scope.setdefault("state", {})
        state["request_id"] = own
        state["trace"] = trace_of(header(scope, b"traceparent"))
        # What the request makes takes it on from here.
        current_trace.set(state["trace"])
        current_request.set(own)

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = own
            await send(message)

        await self._app(scope, receive, telling)


def told_of(request: Request) -> str:
    """For logs: the id, and the trace's."""
    return f"{id_of(request)} trace {getattr(request.state, 'trace', '-')}"


def id_of(request: Request) -> str:
    return str(getattr(request.state, "request_id", "-"))
