"""Who the service takes the caller for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from builder.client.api import Client
from builder.client.models import Answer


class Who(Answer):
    name: str
    scopes: tuple[str, ...]
    recipes: tuple[str, ...] | None = None
    team: str | None = None
    expires_at: datetime | None = None
    identity: dict[str, Any]


def who(client: Client) -> Who:
    """Raises as `Client` does."""
    return client.ask(Who, "GET", "/v1/whoami")
