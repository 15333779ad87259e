"""Where an API is and the key for it, checked before anything is sent there."""

from __future__ import annotations

import re

import httpx

from builder.client.errors import ApiUnreachable, KeyInvalid, UrlInvalid


def checked_url(url: str) -> str:
    """Without a slash at its end. Raises UrlInvalid."""
    hint = "write it as http://HOST:PORT or https://HOST"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UrlInvalid(f"{url[:100]!r} is not a URL", hint=hint) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UrlInvalid(f"{url[:100]!r} is not the URL of an API", hint=hint)
    if parsed.userinfo:
        raise UrlInvalid("the URL of the API holds a user name or a password", hint="give the key with --key")
    return str(parsed).rstrip("/")


def checked_key(key: str) -> str:
    """Raises KeyInvalid."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise KeyInvalid("the API key holds characters that no key has", hint="copy it anew, without a line end")
    return key


def unreachable(url: str, error: httpx.TransportError) -> ApiUnreachable:
    """Why nothing came back."""
    reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if "WRONG_VERSION_NUMBER" in reason:
        return ApiUnreachable(f"the Goldsmith API at {url} does not speak TLS", hint="write http:// for https://")
    return ApiUnreachable(
        f"the Goldsmith API at {url} does not answer: {reason}",
        hint="start it, or name another with --url or GOLDSMITH_URL",
    )
