"""Answers, read up to a limit and only as the type that was asked for."""

from __future__ import annotations

from http import HTTPStatus

import httpx
from pydantic import ValidationError

from builder.client.errors import AnswerUnexpected, ApiProblem
from builder.errors import Problem

_MAX_ANSWER = 64 * 1024 * 1024
_LONGEST_WAIT = 60


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


def refusal(response: httpx.Response, url: str, method: str, path: str) -> ApiProblem | AnswerUnexpected:
    """What an answer that is no success means."""
    content = read_answer(response)
    try:
        told = Problem.model_validate_json(content)
    except ValidationError:
        kind = response.headers.get("content-type", "no type")[:60]
        return AnswerUnexpected(
            f"{url} answered {method} {path} with {response.status_code} ({kind})",
            hint="is there a Goldsmith API at this address?",
        )
    if told.slug == "not-authenticated":
        return ApiProblem(
            told,
            hint="`goldsmith login` keeps a key, GOLDSMITH_API_KEY gives one; "
            "an operator makes it: `goldsmith key create NAME --scope SCOPE`",
        )
    return ApiProblem(told)


def seconds_until_allowed(response: httpx.Response) -> float | None:
    """How long to wait after one request too many; None for any other answer. Such a request was not carried out."""
    after = response.headers.get("Retry-After", "")
    if response.status_code != HTTPStatus.TOO_MANY_REQUESTS or not after.isdecimal() or int(after) > _LONGEST_WAIT:
        return None
    return float(after)
