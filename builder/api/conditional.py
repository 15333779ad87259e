"""Answers that a caller may have already: an entity tag, and 304 for whoever names it (RFC 9110, section 13.1.2)."""

from __future__ import annotations

import hashlib
import re

from fastapi import Request, Response

# What is asked for by digest never changes; it is for those with a key alone.
IMMUTABLE = "private, max-age=31536000, immutable"
# Asked anew each time, and not sent again if it is the same.
MAY_CHANGE = "private, no-cache"
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def answered(
    request: Request,
    content: bytes,
    media_type: str,
    *,
    digest: str | None = None,
    cache: str = MAY_CHANGE,
    headers: dict[str, str] | None = None,
) -> Response:
    """The content with its tag, or 304. `digest` is the content's, `sha256:<hex>`, where it is known already."""
    tag = f'"{digest or "sha256:" + hashlib.sha256(content).hexdigest()}"'
    told = {**(headers or {}), "ETag": tag, "Cache-Control": cache}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=told)
    return Response(content, media_type=media_type, headers=told)


def _has(names: str, tag: str) -> bool:
    """By the weak comparison: for a GET it is enough that the content is as good."""
    return names.strip() == "*" or tag in _TAG.findall(names)
