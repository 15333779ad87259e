"""What anyone may ask without a key: is the service well, and whom does it sign as."""

from __future__ import annotations

import json
from typing import Any

import redis
from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import text

from builder.api.access import Store
from builder.api.problems import documented
from builder.api.views import View
from builder.errors import Rejected, SettingsInvalid
from builder.settings import Settings

router = APIRouter(tags=["service"])


class TrustNotConfigured(Rejected):
    slug = "trust-not-configured"
    title = "This service signs with the public Sigstore"
    status = 404


class Health(View):
    status: str = Field(examples=["ok"])
    checks: dict[str, str] = Field(default={})


@router.get("/healthz", summary="Is the process alive?")
def healthz() -> Health:
    return Health(status="ok")


@router.get("/readyz", summary="Can builds be taken in and handed out?", responses=documented(503))
def readyz(request: Request, database: Store) -> Health:
    """The database must answer. Redis may be away: builds are kept and handed out when it is back."""
    with database.read() as session:
        session.execute(text("SELECT 1"))
    return Health(status="ok", checks={"database": "ok", "redis": _redis(request.app.state.settings)})


@router.get(
    "/v1/trust", summary="The trusted root and identity that verify what is released here", responses=documented(404)
)
def get_trust(request: Request) -> dict[str, Any]:
    settings: Settings = request.app.state.settings
    if settings.sigstore_trust_config is None:
        raise TrustNotConfigured("releases verify with the public Sigstore's trusted root, which clients have")
    try:
        trusted_root = json.loads(settings.sigstore_trust_config.read_text("utf-8"))["trustedRoot"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SettingsInvalid(
            f"GOLDSMITH_SIGSTORE_TRUST_CONFIG names no client trust configuration: {type(error).__name__}",
            hint="an operator must set it",
        ) from error
    return {"identity": settings.signer_identity, "issuer": settings.signer_issuer, "trustedRoot": trusted_root}


def _redis(settings: Settings) -> str:
    try:
        with redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=2) as client:
            client.ping()
    except redis.RedisError:
        return "away: builds are taken in and wait"
    return "ok"
