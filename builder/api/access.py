"""Who is calling: an API key as a bearer token (RFC 6750). Nothing is open without one but health and trust."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from builder.errors import Rejected
from builder.store import keys
from builder.store.database import Database

_bearer = HTTPBearer(auto_error=False, description="An API key, made by `goldsmith admin create-key`.")


class NotAuthenticated(Rejected):
    slug = "not-authenticated"
    title = "The caller is not known"
    status = 401


def database_of(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def caller(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    database: Annotated[Database, Depends(database_of)],
) -> str:
    """The name of whoever calls. Raises NotAuthenticated."""
    if credentials is None:
        raise NotAuthenticated("no API key was given", hint="send `Authorization: Bearer KEY`")
    with database.read() as session:
        owner = keys.owner_of(session, credentials.credentials)
    if owner is None:
        raise NotAuthenticated("the API key is not known, or was revoked", hint="ask an operator for a new one")
    return owner


Caller = Annotated[str, Depends(caller)]
Store = Annotated[Database, Depends(database_of)]
