"""Request bodies, read up to a limit and no further."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fastapi import Request

from builder.errors import Rejected

MAX_BODY = 2 * 1024 * 1024


class BodyTooLarge(Rejected):
    slug = "body-too-large"
    title = "The request body is too large"
    status = 413


class MediaTypeUnsupported(Rejected):
    slug = "media-type-unsupported"
    title = "The request body is of a type that is not understood"
    status = 415


@dataclass(frozen=True)
class Body:
    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


async def read_body(request: Request, accepted: tuple[str, ...]) -> Body:
    """Raises MediaTypeUnsupported or BodyTooLarge; never holds more than the limit."""
    media_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if media_type not in accepted:
        raise MediaTypeUnsupported(f"{media_type or 'no type'} is not understood", hint=f"send {' or '.join(accepted)}")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY:
            raise BodyTooLarge(f"a request may have {MAX_BODY} bytes", hint="put large files into a package")
    return Body(media_type, bytes(content))
