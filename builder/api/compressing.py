"""Answers compressed with gzip for who takes it: what is read with GET, is text, and is no stream of events.

An answer to anything else is not: it may hold a secret beside what the caller sent, and its length would tell of it
(BREACH).
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from builder.api.headers import header

_SMALLEST = 1024
_LEVEL = 4
_COMPRESSED = (
    *DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream", "application/x-tar",
    "application/vnd.goldsmith.inventory.v1+zstd",
)  # fmt: skip


class Compressing:
    """Middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._gzip = GZipMiddleware(
            app, minimum_size=_SMALLEST, compresslevel=_LEVEL, exclude_content_types=_COMPRESSED
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or "event-stream" in header(scope, b"accept"):
            await self._app(scope, receive, send)
            return

        known = header(scope, b"if-none-match")

        async def weakening(message: Message) -> None:
            """Compressed it is no longer the bytes that a strong tag stands for (RFC 9110, section 8.8.1)."""
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                tag = headers.get("etag", "")
                # Of what is not sent again the caller has the compressed form if it says so.
                packed = headers.get("content-encoding") == "gzip" or (message["status"] == 304 and f"W/{tag}" in known)
                if packed and tag.startswith('"'):
                    headers["etag"] = f"W/{tag}"
            await send(message)

        await self._gzip(scope, receive, weakening)
