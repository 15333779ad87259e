"""The sandbox's identity provider: each client proves its own secret and is given a short-lived token of its own name.

OAuth 2.0 client credentials (RFC 6749, section 4.4) and OpenID Connect discovery, as far as a signer needs them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote_plus

import jwt
from jwt.algorithms import ECAlgorithm
from pydantic import BaseModel, ValidationError

from builder.sandbox.keys import Key


def identity_of(client: str) -> str:
    """What certificates call a client: a name that can never resolve (RFC 2606) and says where it comes from."""
    return f"https://sandbox.invalid/{client}"


CLIENT_ID = "goldsmith"
CLIENT_IDENTITY = identity_of(CLIENT_ID)
# Whoever builds a release again speaks as somebody else than its builder.
REBUILDER_ID = "rebuilder"
REBUILDER_IDENTITY = identity_of(REBUILDER_ID)
AUDIENCE = "sigstore"
TOKEN_SECONDS = 300
_ALGORITHM = "ES256"


class TokenRefused(Exception):
    """A token request or a token that the sandbox does not accept. `code` is an OAuth 2.0 error code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Claims(BaseModel):
    """Who a verified token speaks for."""

    sub: str
    iss: str


class TokenResponse(BaseModel):
    """RFC 6749, section 5.1."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int = TOKEN_SECONDS


@dataclass(frozen=True)
class Issuer:
    """`url` is the issuer's name in every token, without a slash at its end; `secrets` are those of each client id."""

    url: str
    key: Key
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def key_id(self) -> str:
        return self.key.log_id.hex()[:16]

    def discovery(self) -> dict[str, str | list[str]]:
        """OpenID Connect Discovery 1.0, section 4.2."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/oidc/jwks",
            "token_endpoint": f"{self.url}/oidc/token",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [_ALGORITHM],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }

    def key_set(self) -> dict[str, list[dict[str, str]]]:
        """The public key as a JSON Web Key Set (RFC 7517, section 5)."""
        public = ECAlgorithm.to_jwk(self.key.private.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self.key_id, "use": "sig", "alg": _ALGORITHM}]}

    def grant(self, form: bytes, authorization: str | None) -> TokenResponse:
        """Answer a token request: its form, and its Authorization header if it has one. Raises TokenRefused."""
        fields = {name: values[-1] for name, values in parse_qs(form.decode("utf-8", "replace")).items()}
        if fields.get("grant_type") != "client_credentials":
            raise TokenRefused("unsupported_grant_type", "only the client_credentials grant is offered")
        client, secret = _basic(authorization) or (fields.get("client_id", ""), fields.get("client_secret", ""))
        # A client without a secret (unknown, or its file is empty) is nobody, whatever it sends.
        expected = self.secrets.get(client, "")
        if not expected or not hmac.compare_digest(secret.encode(), expected.encode()):
            raise TokenRefused("invalid_client", "unknown client, or wrong secret")
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": identity_of(client),
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_SECONDS,
        }
        token = jwt.encode(claims, self.key.private, algorithm=_ALGORITHM, headers={"kid": self.key_id})
        return TokenResponse(access_token=token)

    def verify(self, token: str) -> Claims:
        """The claims of a token that this issuer signed for Sigstore and that is valid now. Raises TokenRefused."""
        try:
            claims = jwt.decode(
                token,
                self.key.private.public_key(),
                # A fixed list: the token's own header must never choose how it is checked.
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=self.url,
                options={"require": ["iss", "sub", "aud", "iat", "exp"]},
            )
            return Claims.model_validate(claims)
        except (jwt.InvalidTokenError, ValidationError) as error:
            reason = str(error) if isinstance(error, jwt.InvalidTokenError) else "its claims are not text"
            raise TokenRefused("invalid_token", f"the identity token is not accepted: {reason}") from error


def _basic(authorization: str | None) -> tuple[str, str] | None:
    """Client id and secret of an HTTP Basic header, each form-encoded (RFC 6749, section 2.3.1)."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return unquote_plus(client), unquote_plus(secret)
