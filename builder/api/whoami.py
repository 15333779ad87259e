"""Who the service takes the caller for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from builder.api.access import Caller
from builder.api.identified import identified
from builder.api.problems import documented
from builder.api.views import View, moment

router = APIRouter(prefix="/v1/whoami", tags=["service"])


class WhoView(View):
    name: str = Field(examples=["github:repo:acme/web:ref:refs/heads/main"])
    scopes: list[str] = Field(examples=[["builds:read", "builds:write"]])
    recipes: list[str] | None = Field(description="Patterns of the recipes it may build; null is any.")
    team: str | None = Field(description="Shares a limit of running builds; null is a team of one.")
    expires_at: datetime | None
    identity: dict[str, Any] = Field(
        description="What is written into a build's provenance: of a token issuer, subject and some claims; of an API "
        "key its id and name.",
        examples=[{"apiKey": "8f14e45fceea167a", "name": "ci"}],
    )


@router.get("", summary="Who I am, and what I may do", responses=documented(401, 503))
def whoami(request: Request, _: Caller) -> WhoView:
    """Any caller that is known may ask."""
    one = identified(request)
    return WhoView(
        name=one.name,
        scopes=list(one.scopes),
        recipes=list(one.recipes) if one.recipes is not None else None,
        team=one.team,
        expires_at=moment(one.expires_at),
        identity=one.identity,
    )
