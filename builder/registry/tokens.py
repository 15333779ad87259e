"""The bearer tokens of registries (distribution's token authentication), with care for where credentials go.

A registry names in `WWW-Authenticate` the address that gives tokens. A hostile or hijacked registry names its own, and
clients have sent passwords there. So credentials go to the registry's own host or to a host the operator named, over
https (plain http on loopback and for named registries alone), and no redirect is followed.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ValidationError

from builder.registry.access import Access
from builder.registry.credentials import Credentials
from builder.registry.errors import AnswerUnexpected, RegistryRefused
from builder.registry.reach import guarded
from builder.registry.reference import is_loopback

_CHALLENGE = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_MAX_ANSWER = 1024 * 1024
_DEFAULT_LIFETIME = 60.0
_LONGEST_LIFETIME = 3600.0


@dataclass(frozen=True)
class Challenge:
    """What a `WWW-Authenticate` header asks for. `scheme` is "bearer" or "basic"."""

    scheme: str
    realm: str
    service: str
    scope: str


@dataclass(frozen=True)
class Token:
    value: str
    expires: float  # by time.monotonic()


class _Answer(BaseModel):
    token: str | None = None
    access_token: str | None = None
    expires_in: float = _DEFAULT_LIFETIME


def parse_challenge(registry: str, header: str) -> Challenge:
    """Raises AnswerUnexpected for a scheme that is neither Bearer nor Basic."""
    scheme, _, rest = header.strip().partition(" ")
    fields = {key.lower(): quoted or bare for key, quoted, bare in _CHALLENGE.findall(rest)}
    if scheme.lower() not in ("bearer", "basic"):
        raise AnswerUnexpected(f"{registry} asks for the unknown authentication scheme {scheme[:40]!r}")
    return Challenge(scheme.lower(), fields.get("realm", ""), fields.get("service", ""), fields.get("scope", ""))


def fetch_token(
    client: httpx.Client, access: Access, registry: str, challenge: Challenge, credentials: Credentials | None
) -> Token:
    """Get a token from the challenge's realm. Raises RegistryRefused, AnswerUnexpected and httpx.TransportError."""
    try:
        realm = httpx.URL(challenge.realm)
    except httpx.InvalidURL as error:
        raise AnswerUnexpected(f"{registry} names an address for tokens that is not valid") from error
    host = realm.netloc.decode("ascii", "replace")
    _check_realm(access, registry, realm, host)
    trusted = host == registry or host in access.trusted_realms or (is_loopback(host) and is_loopback(registry))
    auth = httpx.BasicAuth(credentials.username, credentials.password) if credentials and trusted else None
    # Only scope and service: an account parameter would be one more thing to leak.
    parameters = {"service": challenge.service, "scope": challenge.scope}
    address = realm.copy_merge_params({key: value for key, value in parameters.items() if value})
    plain = {"Accept-Encoding": "identity"}
    reach = guarded(access, registry)
    with client.stream("GET", address, auth=auth, headers=plain, follow_redirects=False, extensions=reach) as response:
        body = b""
        deadline = time.monotonic() + access.patience
        for chunk in response.iter_raw():
            body += chunk
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("an answer takes too long")
            if len(body) > _MAX_ANSWER:
                raise AnswerUnexpected(f"{host} answered a request for a token with more than {_MAX_ANSWER} bytes")
    if response.is_redirect:
        raise RegistryRefused(f"{host}, which gives tokens for {registry}, redirects elsewhere; that is not followed")
    if response.status_code in (401, 403) or (credentials and not trusted and response.status_code >= 400):
        raise _refused(registry, host, credentials, trusted=trusted)
    if response.status_code >= 500:
        raise httpx.ConnectError(f"{host} answered a request for a token with {response.status_code}")
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError:
        # Not chained: the cause would quote the answer, and that may hold a token.
        raise AnswerUnexpected(f"{host} answered a request for a token with something else") from None
    value = answer.token or answer.access_token
    if response.status_code != 200 or not value or not value.isascii() or not value.isprintable():
        raise AnswerUnexpected(f"{host} gave no token (status {response.status_code})")
    # A little early, so that no request goes out with a token that ends on the way.
    lifetime = min(max(answer.expires_in, _DEFAULT_LIFETIME), _LONGEST_LIFETIME)
    return Token(value, time.monotonic() + lifetime * 0.8)


def _check_realm(access: Access, registry: str, realm: httpx.URL, host: str) -> None:
    own = host == registry
    if is_loopback(host) and not is_loopback(registry) and not own:
        raise RegistryRefused(f"{registry} names an address on this machine for tokens, which is not followed")
    plain_allowed = is_loopback(host) or (own and registry in access.insecure)
    if realm.scheme != "https" and not (realm.scheme == "http" and plain_allowed):
        raise RegistryRefused(
            f"{registry} wants tokens fetched from {host or 'nowhere'} without TLS",
            hint="serve tokens over https, or name the registry as insecure if it is a test",
        )
    if realm.userinfo:
        raise RegistryRefused(f"{registry} names an address with a password in it for tokens")


def _refused(registry: str, host: str, credentials: Credentials | None, *, trusted: bool) -> RegistryRefused:
    if credentials and not trusted:
        return RegistryRefused(
            f"{registry} wants tokens fetched from {host}; the credentials were not sent to that other host",
            hint=f"if {host} belongs to the registry, add it to the trusted token hosts",
        )
    return RegistryRefused(
        f"{host} gives no token for {registry} to {credentials or 'a request without credentials'}",
        hint="check the user name, the password and the rights on the repository",
    )
