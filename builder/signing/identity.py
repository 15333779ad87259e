"""Where a signer's identity comes from: an OpenID Connect token, from the platform, a file, or an OAuth 2.0 grant.

Each source has one method, `token() -> str`, called once for every signing certificate. A token is a secret.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from pydantic import BaseModel, ValidationError
from sigstore.oidc import detect_credential

from builder.errors import Broken, Unavailable
from builder.private import refuse_open
from builder.signing.loopback import is_loopback

AUDIENCE = "sigstore"


class IdentityUnavailable(Unavailable):
    slug = "identity-unavailable"
    title = "The signing identity cannot be obtained"


class IdentityRefused(Broken):
    slug = "identity-refused"
    title = "The signing identity was refused"


class IdentitySource(Protocol):
    """One way to a token whose audience is `sigstore`."""

    def token(self) -> str:
        """A token that is valid now. Raises IdentityUnavailable or IdentityRefused."""
        ...


@dataclass(frozen=True)
class AmbientIdentity:
    """The identity that the platform gives to what runs on it: CI services and clouds that Sigstore knows."""

    def token(self) -> str:
        try:
            found = detect_credential(AUDIENCE)
        except Exception as error:
            # Not IdentityError alone: a metadata server that does not answer comes through as it is.
            raise IdentityUnavailable(f"the platform gave no identity: {error}") from error
        if found is None:
            raise IdentityUnavailable(
                "this platform gives its programs no identity that Sigstore knows",
                hint="use a token file or an OAuth 2.0 client instead",
            )
        return found


@dataclass(frozen=True)
class TokenFile:
    """A token that something else keeps fresh in a file, such as a projected service account token."""

    path: Path

    def token(self) -> str:
        # Read anew each time: whoever keeps the file replaces the token before it expires. Platforms let all in one
        # container read it; whoever may write it decides who signs.
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
            if mode & 0o022:
                raise IdentityRefused(
                    f"the token file {self.path} has mode {mode:04o}: others may write it",
                    hint=f"chmod go-w {self.path}",
                )
            content = self.path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise IdentityUnavailable(f"the token file {self.path} cannot be read: {why}") from error
        if not content:
            raise IdentityUnavailable(f"the token file {self.path} is empty", hint="check what writes it")
        return content


class _Granted(BaseModel):
    access_token: str


class _Refusal(BaseModel):
    error: str
    error_description: str = ""


@dataclass(frozen=True)
class ClientCredentials:
    """A client that proves a secret at a token endpoint (RFC 6749, section 4.4). `timeout` is in seconds."""

    token_endpoint: str
    client_id: str
    secret_file: Path
    timeout: float = 10.0

    def token(self) -> str:
        try:
            response = httpx.post(
                self.token_endpoint,
                data={"grant_type": "client_credentials", "audience": AUDIENCE},
                auth=httpx.BasicAuth(self.client_id, self._secret()),
                timeout=self.timeout,
                trust_env=not is_loopback(self.token_endpoint),
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error)
            raise IdentityUnavailable(f"the token endpoint {self.token_endpoint} cannot be reached: {why}") from error
        if response.status_code in (400, 401, 403):
            raise IdentityRefused(
                f"{self.token_endpoint} refused the client {self.client_id!r}: {_explanation(response)}",
                hint=f"check the client id, and the secret in {self.secret_file}",
            )
        try:
            return _Granted.model_validate_json(response.raise_for_status().content).access_token
        except (httpx.HTTPStatusError, ValidationError) as error:
            raise IdentityUnavailable(
                f"{self.token_endpoint} answered {response.status_code} without a token"
            ) from error

    def _secret(self) -> str:
        try:
            refuse_open(self.secret_file, "GOLDSMITH_IDENTITY_CLIENT_SECRET_FILE")
            return self.secret_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise IdentityUnavailable(f"the client secret file {self.secret_file} cannot be read: {why}") from error


def _explanation(response: httpx.Response) -> str:
    try:
        refusal = _Refusal.model_validate_json(response.content)
    except ValidationError:
        return f"HTTP {response.status_code}"
    return f"{refusal.error} {refusal.error_description}".strip()[:300]
