"""Answers, read up to a limit and only as the type that was asked for."""

from __future__ import annotations

import httpx

from builder.client.errors import AnswerUnexpected

_MAX_ANSWER = 64 * 1024 * 1024


def require_type(response: httpx.Response, media_type: str) -> None:
    """Raises AnswerUnexpected."""
    found = response.headers.get("content-type", "no type")
    if found.split(";")[0].strip() != media_type:
        raise AnswerUnexpected(
            f"{response.url} answered with {found[:60]}, not {media_type}",
            hint="is there a Goldsmith API at this address?",
        )


def read_answer(response: httpx.Response) -> bytes:
    """Raises AnswerUnexpected."""
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > _MAX_ANSWER:
            raise AnswerUnexpected(f"{response.url} answered with more than {_MAX_ANSWER} bytes")
    return bytes(content)
