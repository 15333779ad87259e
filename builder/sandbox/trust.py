"""What clients need to trust a sandbox and to sign with it, as the JSON documents Sigstore clients read.

Shapes: TrustedRoot, SigningConfig and ClientTrustConfig of sigstore/protobuf-specs, in their ProtoJSON form.
"""

from __future__ import annotations

import base64
import json

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pydantic import JsonValue

from builder.sandbox.certificates import Authority
from builder.sandbox.keys import Key
from builder.sandbox.marking import ORGANISATION


def trusted_root(url: str, authority: Authority, ct: Key, rekor: Key) -> dict[str, JsonValue]:
    """Whose certificates, certificate timestamps and log entries to believe, since the authority was made."""
    valid_for: dict[str, JsonValue] = {"start": _start(authority)}
    chain: list[JsonValue] = [{"rawBytes": _der(cert)} for cert in (authority.certificate, authority.root)]
    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [_log(url, rekor, valid_for)],
        "certificateAuthorities": [
            {
                "subject": {"organization": ORGANISATION, "commonName": "Goldsmith sandbox root"},
                "uri": url,
                "certChain": {"certificates": chain},
                "validFor": valid_for,
            }
        ],
        "ctlogs": [_log(url, ct, valid_for)],
        "timestampAuthorities": [],
    }


def client_trust_config(url: str, authority: Authority, ct: Key, rekor: Key) -> dict[str, JsonValue]:
    """The trusted root, and where to sign: one authority, one Rekor v1 log, no timestamp authority."""
    service: dict[str, JsonValue] = {
        "url": url,
        "majorApiVersion": 1,
        "operator": ORGANISATION,
        "validFor": {"start": _start(authority)},
    }
    return {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": trusted_root(url, authority, ct, rekor),
        "signingConfig": {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service],
            "oidcUrls": [service],
            "rekorTlogUrls": [service],
            "tsaUrls": [],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        },
    }


def document(content: dict[str, JsonValue]) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def _log(url: str, key: Key, valid_for: dict[str, JsonValue]) -> JsonValue:
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64.b64encode(key.spki).decode(),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": valid_for,
        },
        "logId": {"keyId": base64.b64encode(key.log_id).decode()},
    }


def _der(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()


def _start(authority: Authority) -> str:
    return authority.root.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
