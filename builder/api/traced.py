"""Middleware: each request as a span, in the trace that its caller names, where traces are wanted."""

from __future__ import annotations

import time

from opentelemetry.trace import SpanKind
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from builder.spans import Spans
from builder.tracing import parent_of


class Traced:
    def __init__(self, app: ASGIApp, spans: Spans) -> None:
        self._app, self._spans = app, spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, answer = time.time(), {"status": 500}

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, telling)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._spans.tell(
                f"{scope['method']} {route}",
                trace=scope["state"]["trace"],
                begun=begun,
                ended=time.time(),
                parent=parent_of(Headers(scope=scope).get("traceparent", "")),
                kind=SpanKind.SERVER,
                attributes={
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": answer["status"],
                    "goldsmith.request": scope["state"]["request_id"],
                },
                failure="server error" if answer["status"] >= 500 else None,
            )
