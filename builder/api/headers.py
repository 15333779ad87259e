"""One header of a request, as middleware needs it: with every request, and most have it not."""

from __future__ import annotations

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str:
    """The first of that name, which is in small letters (ASGI, section 2.3.1); empty where there is none."""
    return next((value.decode("latin-1") for given, value in scope["headers"] if given == name), "")
