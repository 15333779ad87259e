"""Builds that came to nothing, asked for again."""

from __future__ import annotations

from urllib.parse import quote

from builder.client.api import Client
from builder.client.models import Build


def retry(client: Client, build_id: str) -> Build:
    """A new build with the recipe, lock and options of one that failed or was cancelled. Raises as `Client` does."""
    return client.ask(Build, "POST", f"/v1/builds/{quote(build_id, safe='')}/retry")
