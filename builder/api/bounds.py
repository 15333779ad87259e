"""What every request is held to before anything reads it, and what every answer says of the caller's rate."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from builder.api.problems import problem_response
from builder.api.rates import rate_headers
from builder.errors import GoldsmithError, Rejected

MAX_HEADERS = 32 * 1024
MAX_FIELDS = 100
MAX_TARGET = 8 * 1024


class HeadersTooLarge(Rejected):
    slug = "headers-too-large"
    title = "The request's headers are too large"
    status = 431


class TargetTooLong(Rejected):
    slug = "target-too-long"
    title = "The request's path and query are too long"
    status = 414


class Bounds:
    """Middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(rate_headers(state.get("rates", ())))
            await send(message)

        refusal = _refusal(scope)
        answer = self._app if refusal is None else problem_response(refusal.problem(instance=scope["path"][:200]))
        await answer(scope, receive, telling)


def _refusal(scope: Scope) -> GoldsmithError | None:
    target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    if target > MAX_TARGET:
        return TargetTooLong(f"path and query have {target} bytes; {MAX_TARGET} are allowed", hint="ask for less")
    headers = scope["headers"]
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if size > MAX_HEADERS or len(headers) > MAX_FIELDS:
        return HeadersTooLarge(
            f"{len(headers)} headers have {size} bytes; {MAX_FIELDS} and {MAX_HEADERS} are allowed", hint="send fewer"
        )
    return None
