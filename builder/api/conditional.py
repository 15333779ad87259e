"""Answers that a caller may have already: an entity tag, and 304 for whoever names it (RFC 9110, section 13.1.2)."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What is asked for by digest never changes; it is for those with a key alone.
IMMUTABLE = "private, max-age=31536000, immutable"
# Asked anew each time, and not sent again if it is the same.
MAY_CHANGE = "private, no-cache"
# For the OpenAPI document.
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It is what `If-None-Match` names."}}
_TAG = re.compile(r'(?:W/)?("[^"]*")')
# What would speak of a content that is not sent.
_OF_CONTENT = ("content-length", "content-type")


def tagged(content: bytes, media_type: str, *, digest: str | None = None, cache: str = MAY_CHANGE) -> Response:
    """The content with its tag. `digest` is the content's, `sha256:<hex>`, where it is known already."""
    tag = f'"{digest or "sha256:" + hashlib.sha256(content).hexdigest()}"'
    return Response(content, media_type=media_type, headers={"ETag": tag, "Cache-Control": cache})


class Conditional:
    """Middleware: an answer with a tag that the caller names becomes 304, whoever made it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        named = Headers(scope=scope).getlist("if-none-match")
        spared = False

        async def sparing(message: Message) -> None:
            nonlocal spared
            if message["type"] == "http.response.start" and message["status"] == 200:
                headers = MutableHeaders(scope=message)
                spared = "etag" in headers and named_by(named, headers["etag"])
                if spared:
                    message["status"] = 304
                    for name in _OF_CONTENT:
                        del headers[name]
            elif spared and message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        await self._app(scope, receive, sparing if named else send)


def named_by(given: list[str], tag: str) -> bool:
    """Whether `If-None-Match` names the tag, by the weak comparison: for a GET it is enough that the content is as
    good."""
    names = ", ".join(given)
    return names.strip() == "*" or tag in _TAG.findall(names)
