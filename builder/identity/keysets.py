"""The keys of an issuer (OpenID Connect Discovery 1.0; RFC 7517), fetched when they are needed and kept for a while."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from builder import __version__
from builder.errors import Unavailable
from builder.signing.loopback import is_loopback

_FRESH_SECONDS = 600.0
# A token with an unknown key must not make us ask its issuer each time.
_PAUSE_SECONDS = 30.0
# An issuer that is away for so long may have withdrawn a key meanwhile.
_STALE_SECONDS = 24 * 3600.0
_SECONDS = 5.0
_MOST_BYTES = 512 * 1024
_MOST_KEYS = 100


class IssuerUnavailable(Unavailable):
    slug = "issuer-unavailable"
    title = "The keys of the token's issuer cannot be had"


@dataclass
class KeySet:
    """One issuer's keys. Several threads may ask at once; one of them fetches."""

    issuer: str
    _keys: list[dict[str, Any]] = field(default_factory=list)
    _fetched: float | None = None
    _tried: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keys(self, kid: str | None) -> list[dict[str, Any]]:
        """The keys of that name, or all if the token names none. Raises IssuerUnavailable."""
        with self._lock:
            now = time.monotonic()
            found = self._named(kid)
            stale = self._fetched is None or now - self._fetched > _FRESH_SECONDS
            if (stale or not found) and (self._tried is None or now - self._tried > _PAUSE_SECONDS):
                self._tried = now
                try:
                    self._keys = _fetch(self.issuer)
                    self._fetched = time.monotonic()
                    return self._named(kid)
                except IssuerUnavailable:
                    if self._too_old(now):
                        raise
            if self._too_old(now):
                raise IssuerUnavailable(f"{self.issuer} did not answer a moment ago", hint="send the request again")
            return found

    def _too_old(self, now: float) -> bool:
        return self._fetched is None or now - self._fetched > _STALE_SECONDS

    def _named(self, kid: str | None) -> list[dict[str, Any]]:
        return [key for key in self._keys if kid is None or key.get("kid") == kid]


def _fetch(issuer: str) -> list[dict[str, Any]]:
    with httpx.Client(
        timeout=_SECONDS, follow_redirects=False, trust_env=not is_loopback(issuer),
        headers={"User-Agent": f"goldsmith/{__version__}", "Accept": "application/json"},
    ) as client:  # fmt: skip
        document = _read(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            raise IssuerUnavailable(f"what is at {issuer} says that it is another issuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not (urlsplit(url).scheme == "https" or is_loopback(url)):
            raise IssuerUnavailable(f"{issuer} names no https address of its keys")
        keys = _read(client, url).get("keys")
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise IssuerUnavailable(f"{issuer} has no set of keys, or too many")
    return [key for key in keys if isinstance(key, dict)]


def _read(client: httpx.Client, url: str) -> dict[str, Any]:
    content = bytearray()
    deadline = time.monotonic() + 2 * _SECONDS
    try:
        with client.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise IssuerUnavailable(f"{url} answered {answer.status_code}")
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MOST_BYTES or time.monotonic() > deadline:
                    raise IssuerUnavailable(f"{url} sends too much, or too slowly")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise IssuerUnavailable(f"{url} cannot be reached: {type(error).__name__}") from error
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise IssuerUnavailable(f"{url} is not JSON") from error
    if not isinstance(found, dict):
        raise IssuerUnavailable(f"{url} is no JSON object")
    return found
