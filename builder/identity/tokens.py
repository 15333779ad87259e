"""Tokens (RFC 7519) verified as RFC 8725 advises: the operator's settings, and not the token, say how."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from builder.errors import Rejected
from builder.identity.issuers import Granted, Issuers, TrustedIssuer, read_issuers
from builder.identity.keysets import KeySet
from builder.store.scopes import Scope

MAX_TOKEN = 16 * 1024
_LEEWAY = 30
_LONGEST_SECONDS = 24 * 3600
_MOST_NAME = 100
_FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
# Claims that say which run of which workflow asked; they go into the provenance.
_TOLD = (
    "repository", "repository_id", "repository_owner", "ref", "sha", "workflow_ref", "run_id", "run_attempt",
    "environment", "actor", "project_path", "project_id", "namespace_path", "pipeline_id", "job_id", "ref_path",
    "user_login",
)  # fmt: skip


class TokenRefused(Rejected):
    """The reason is told; nothing of the token is."""

    slug = "token-refused"
    title = "The token is not accepted"
    status = 401


class TokenNotGranted(Rejected):
    """It is genuine, and no rule gives it anything."""

    slug = "token-not-granted"
    title = "No rule lets the token's bearer do anything"
    status = 403


@dataclass(frozen=True)
class Bearer:
    """Whoever has shown a token. `name` is `ISSUER:SUBJECT`, by the issuer's short name, of at most 100 characters."""

    name: str
    issuer: str
    subject: str
    granted: Granted
    expires_at: float
    claims: Mapping[str, str]


class Tokens:
    """Verifies tokens of the issuers in a file; without one it accepts none."""

    def __init__(self, path: Path | None) -> None:
        """Raises SettingsInvalid."""
        found: Issuers | None = read_issuers(path) if path is not None else None
        self._issuers = {one.issuer: one for one in found.issuers} if found else {}
        self._keys = {issuer: KeySet(issuer) for issuer in self._issuers}

    def verify(self, token: str) -> Bearer:
        """Raises TokenRefused, TokenNotGranted, or IssuerUnavailable."""
        if not self._issuers:
            raise _refused("this service trusts no issuer of tokens", "give an API key, or ask an operator")
        if len(token) > MAX_TOKEN:
            raise _refused(f"it has more than {MAX_TOKEN} characters")
        try:
            header = jwt.get_unverified_header(token)
            told = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _refused("it is no signed JSON Web Token") from error
        named = told.get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise _refused("its issuer (iss) is not one that this service trusts", "see GOLDSMITH_ISSUERS")
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise _refused(f"its algorithm (alg) is not {' or '.join(issuer.algorithms)}")
        if "crit" in header:
            raise _refused("its header demands an extension (crit) that is not understood")
        claims = self._verified(token, header, issuer, str(algorithm))
        return _bearer(issuer, claims)

    def _verified(self, token: str, header: Mapping[str, Any], issuer: TrustedIssuer, algorithm: str) -> dict[str, Any]:
        kid = header.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise _refused("the name of its key (kid) is no text")
        keys = [key for one in self._keys[issuer.issuer].keys(kid) if (key := _usable(one, algorithm)) is not None]
        if not keys:
            raise _refused(f"its issuer has no key of its name (kid) for {algorithm}")
        reason = ""
        for key in keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=issuer.audience,
                    issuer=issuer.issuer,
                    leeway=_LEEWAY,
                    options={"require": ["iss", "sub", "aud", "iat", "exp"], "strict_aud": True},
                )
                return claims
            except jwt.InvalidSignatureError:
                reason = "its signature does not verify"
            except jwt.PyJWTError as error:
                raise _refused(_reason(error)) from error
            except (ValueError, TypeError, OverflowError) as error:
                raise _refused("one of its claims is of the wrong form") from error
        raise _refused(reason)


def _bearer(issuer: TrustedIssuer, claims: dict[str, Any]) -> Bearer:
    subject, issued, ends = claims["sub"], claims["iat"], claims["exp"]
    if not isinstance(subject, str) or not (0 < len(subject) <= 255 and subject.isprintable()):
        raise _refused("its subject (sub) is no text of 1 to 255 printable characters")
    if not all(isinstance(one, int | float) for one in (issued, ends)) or ends - issued > _LONGEST_SECONDS:
        raise _refused("it is valid for more than a day")
    rule = issuer.rule_for(claims)
    if rule is None:
        raise TokenNotGranted(
            f"no rule of the issuer {issuer.name!r} matches the token of {subject}",
            hint="an operator adds one to the file of GOLDSMITH_ISSUERS",
        )
    granted = Granted(
        tuple(Scope(one) for one in rule.scopes),
        tuple(rule.recipes) if rule.recipes is not None else None,
        rule.team,
    )
    kept = {name: str(claims[name])[:300] for name in _TOLD if isinstance(claims.get(name), str | int)}
    return Bearer(_name(issuer.name, subject), issuer.issuer, subject, granted, float(ends), kept)


def _name(issuer: str, subject: str) -> str:
    """What is too long for a name keeps its beginning, and a digest makes it the subject's alone."""
    whole = f"{issuer}:{subject}"
    if len(whole) <= _MOST_NAME:
        return whole
    return f"{whole[: _MOST_NAME - 17]}~{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def _usable(key: dict[str, Any], algorithm: str) -> Any:
    """The public key, if it may verify signatures of this algorithm; else None."""
    if key.get("kty") != _FAMILIES[algorithm[:2]] or key.get("use", "sig") != "sig":
        return None
    if key.get("alg", algorithm) != algorithm:
        return None
    public = {name: value for name, value in key.items() if name != "d"}
    try:
        found = jwt.PyJWK(public, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(found, RSAPublicKey) and found.key_size < 2048:
        return None
    if isinstance(found, EllipticCurvePublicKey) and found.curve.name != _CURVES.get(algorithm):
        return None
    return found


def _reason(error: jwt.PyJWTError) -> str:
    told: dict[type[jwt.PyJWTError], str] = {
        jwt.ExpiredSignatureError: f"it has expired (now is {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC)",
        jwt.ImmatureSignatureError: "it is not valid yet (nbf, iat)",
        jwt.InvalidAudienceError: "it is for another audience (aud)",
        jwt.InvalidIssuerError: "it is of another issuer (iss)",
    }
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it lacks a claim: {error.claim}"
    return next((reason for kind, reason in told.items() if isinstance(error, kind)), "it is not valid")


def _refused(reason: str, hint: str | None = None) -> TokenRefused:
    return TokenRefused(f"the token is not accepted: {reason}", hint=hint)
