"""The Docker SDK's errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from docker.errors import APIError

from builder.errors import Broken, Unavailable


class EngineUnavailable(Unavailable):
    slug = "engine-unavailable"
    title = "The container engine does not answer"


class EngineFailed(Broken):
    slug = "engine-failed"
    title = "The container engine refused"


@contextmanager
def translated() -> Iterator[None]:
    """Around every call to the SDK. Raises EngineUnavailable or EngineFailed."""
    try:
        yield
    except APIError as error:
        if error.status_code is not None and error.status_code >= 500 and "no space left" in str(error).lower():
            raise EngineUnavailable("the Docker Engine has no disk space left", hint="free some space") from error
        raise EngineFailed(f"the Docker Engine refused: {said(error)}") from error
    except requests.RequestException as error:
        raise EngineUnavailable("the Docker Engine stopped answering", hint="see the engine's own log") from error


def said(error: APIError) -> str:
    return str(error.explanation or error).strip()
