"""Who is calling, and may they: an API key as a bearer token (RFC 6750) that has the scope which the route needs."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from builder.api.batches import Batches
from builder.api.identified import Identified
from builder.api.rates import Counted, Left, Policy, Rates, refuse_exceeded
from builder.api.scopes import ANYBODY_KNOWN, JOBS, ROUTES
from builder.errors import Broken, Rejected
from builder.identity.tokens import Tokens
from builder.settings import Settings
from builder.store import keys
from builder.store.callers import ApiKey
from builder.store.database import Database, DatabaseUnavailable

_bearer = HTTPBearer(
    auto_error=False,
    description="An API key, made by `goldsmith key create`, or a token of an issuer that the operator trusts.",
)


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


async def caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """The name of whoever calls and may. Raises NotAuthenticated, KeyExpired, TokenRefused, TokenNotGranted,
    IssuerUnavailable, RateLimited or ScopeMissing."""
    if credentials is None:
        raise NotAuthenticated(
            "no API key was given",
            hint="send `Authorization: Bearer KEY`; an operator makes a key: `goldsmith key create`",
        )
    if credentials.credentials.count(".") == 2:  # as no key has
        tokens: Tokens = request.app.state.tokens
        # An issuer may have to be asked for its keys.
        one = Identified.by_token(await anyio.to_thread.run_sync(tokens.verify, credentials.credentials))
    else:
        one = await _by_key(request, credentials.credentials)
    request.state.key = one
    await _count(request, one)
    _refuse_without_scope(request, one)
    return one.name


def finding_keys(database: Database) -> Batches[str, ApiKey | None]:
    """What keys stand for, each as the database has it then: one that was revoked before is not found."""
    return Batches(lambda given: _found_keys(database, given))


def _found_keys(database: Database, given: list[str]) -> list[ApiKey | None]:
    with database.read() as session:
        found = keys.find_keys(session, given)
    now = time.time()
    for key in {key.id: key for key in found if key is not None}.values():
        if keys.use_is_due(key, now) and not keys.expired(key, now):
            # Not worth a refusal.
            with suppress(DatabaseUnavailable), database.write() as session:
                keys.note_use(session, key, now)
    return found


async def _by_key(request: Request, given: str) -> Identified:
    finding: Batches[str, ApiKey | None] = request.app.state.finding_keys
    key = await finding.do(given)
    if key is None:
        raise NotAuthenticated("the API key is not known, or was revoked", hint="ask an operator for a new one")
    # So that the audit log has its name, even if it is refused.
    request.state.key = one = Identified.by_key(key)
    if keys.expired(key, time.time()):
        ended = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(key.expires_at))
        raise KeyExpired(
            f"the API key of {key.name} expired at {ended}",
            hint="an operator makes another: `goldsmith key create NAME --scope SCOPE --expires 90d`",
        )
    return one


async def _count(request: Request, one: Identified) -> None:
    """Raises RateLimited."""
    settings: Settings = request.app.state.settings
    rates: Rates = request.app.state.rates
    policies = [Policy("requests", settings.requests_per_minute)]
    needs = ROUTES.get(f"{request.method} {request.scope['route'].path_format}")
    if request.method == "POST" and needs is not None and not JOBS.isdisjoint(needs.scopes):
        policies.append(Policy("jobs", settings.jobs_per_minute))
    asked = Counted(one.name, policies)
    # The middleware tells the caller.
    if rates.alone or not any(policy.quota for policy in policies):
        [request.state.rates] = rates.take([asked])
    else:
        counting: Batches[Counted, tuple[Left, ...]] = request.app.state.counting
        request.state.rates = await counting.do(asked)
    refuse_exceeded(one.name, request.state.rates)


def _refuse_without_scope(request: Request, one: Identified) -> None:
    action = f"{request.method} {request.scope['route'].path_format}"
    needs = ROUTES.get(action)
    if needs is None:
        raise ScopeUndeclared(f"{action} is in no table of scopes", hint="an operator must report it")
    if needs is not ANYBODY_KNOWN and not one.allows(needs.scopes):
        wanted = " or ".join(needs.scopes)
        has = ", ".join(one.scopes) or "none"
        whose = f"the API key of {one.name}" if one.id else f"the token of {one.name}"
        raise ScopeMissing(
            f"{action} needs the scope {wanted}; {whose} has {has}",
            hint=f"an operator makes one that may: `goldsmith key create NAME --scope {needs.scopes[0]}`",
        )


Caller = Annotated[str, Depends(caller)]
Store = Annotated[Database, Depends(database_of)]
