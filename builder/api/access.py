"""Who is calling, and may they: an API key as a bearer token (RFC 6750) that has the scope which the route needs."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from builder.api.scopes import ROUTES
from builder.errors import Broken, Rejected
from builder.store import keys
from builder.store.callers import ApiKey
from builder.store.database import Database, DatabaseUnavailable

_bearer = HTTPBearer(auto_error=False, description="An API key, made by `goldsmith key create`.")


class NotAuthenticated(Rejected):
    slug = "not-authenticated"
    title = "The caller is not known"
    status = 401


class KeyExpired(Rejected):
    slug = "key-expired"
    title = "The API key has expired"
    status = 401


class ScopeMissing(Rejected):
    slug = "scope-missing"
    title = "The API key has not the scope that is needed"
    status = 403


class ScopeUndeclared(Broken):
    slug = "scope-undeclared"
    title = "Nobody has said which scope the route needs"


def database_of(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    database: Annotated[Database, Depends(database_of)],
) -> str:
    """The name of whoever calls and may. Raises NotAuthenticated, KeyExpired or ScopeMissing."""
    if credentials is None:
        raise NotAuthenticated("no API key was given", hint="send `Authorization: Bearer KEY`")
    with database.read() as session:
        key = keys.find_key(session, credentials.credentials)
    if key is None:
        raise NotAuthenticated("the API key is not known, or was revoked", hint="ask an operator for a new one")
    request.state.key = key
    now = time.time()
    if keys.expired(key, now):
        ended = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(key.expires_at))
        raise KeyExpired(
            f"the API key of {key.name} expired at {ended}",
            hint="an operator makes another: `goldsmith key create NAME --scope SCOPE --expires 90d`",
        )
    if keys.use_is_due(key, now):
        # Not worth a refusal.
        with suppress(DatabaseUnavailable), database.write() as session:
            keys.note_use(session, key, now)
    _refuse_without_scope(request, key)
    return key.name


def _refuse_without_scope(request: Request, key: ApiKey) -> None:
    action = f"{request.method} {request.scope['route'].path_format}"
    needs = ROUTES.get(action)
    if needs is None:
        raise ScopeUndeclared(f"{action} is in no table of scopes", hint="an operator must report it")
    if not keys.allows(key, needs.scopes):
        wanted = " or ".join(needs.scopes)
        has = ", ".join(key.scopes) or "none"
        raise ScopeMissing(
            f"{action} needs the scope {wanted}; the API key of {key.name} has {has}",
            hint=f"an operator makes one that may: `goldsmith key create NAME --scope {needs.scopes[0]}`",
        )


Caller = Annotated[str, Depends(caller)]
Store = Annotated[Database, Depends(database_of)]
