"""Links between the pages of a list."""

from __future__ import annotations

from fastapi import Request


def next_page(request: Request, **cursor: str | int) -> str:
    """The path of the page that begins at another place, with all else that was asked for: no host, for a proxy may
    have another name."""
    return str(request.url.include_query_params(**cursor).replace(scheme="", netloc=""))
