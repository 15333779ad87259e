"""What may enter the log: proposed Rekor v1 entries, checked, and turned into the body that is logged.

Two kinds: `hashedrekord` 0.0.1 (a signature over a digest) and `dsse` 0.0.1 (a signed envelope). An entry enters only
when its signature verifies with its certificate, and the certificate is one of ours and valid now.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Literal

import rfc8785
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from builder.sandbox.certificates import pem


class EntryRefused(Exception):
    """A proposed entry that must not be logged; the text says why."""


class _Hash(BaseModel):
    algorithm: Literal["sha256"]
    value: str = Field(pattern=r"^[0-9a-f]{64}$")


class _HashedData(BaseModel):
    hash: _Hash


class _PublicKey(BaseModel):
    content: str


class _Signature(BaseModel):
    content: str
    public_key: _PublicKey = Field(alias="publicKey")


class _HashedRekordSpec(BaseModel):
    data: _HashedData
    signature: _Signature


class HashedRekord(BaseModel):
    """A signature over a SHA-256 digest, with the signer's certificate."""

    kind: Literal["hashedrekord"]
    api_version: Literal["0.0.1"] = Field(alias="apiVersion")
    spec: _HashedRekordSpec

    def body(self, issuer: x509.Certificate) -> bytes:
        """The canonical body, once everything in it is verified. Raises EntryRefused."""
        key, verifier = _verifier(self.spec.signature.public_key.content, issuer)
        signature = _decode(self.spec.signature.content, "signature.content")
        digest = bytes.fromhex(self.spec.data.hash.value)
        _check(key, signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        spec: JsonValue = {
            "data": {"hash": {"algorithm": "sha256", "value": self.spec.data.hash.value}},
            "signature": {"content": _encode(signature), "publicKey": {"content": verifier}},
        }
        return rfc8785.dumps({"apiVersion": self.api_version, "kind": self.kind, "spec": spec})


class _EnvelopeSignature(BaseModel):
    sig: str


class _Envelope(BaseModel):
    payload: str
    payload_type: str = Field(alias="payloadType")
    signatures: list[_EnvelopeSignature] = Field(min_length=1, max_length=1)


class _ProposedContent(BaseModel):
    envelope: str
    verifiers: list[str] = Field(min_length=1, max_length=1)


class _DsseSpec(BaseModel):
    proposed_content: _ProposedContent = Field(alias="proposedContent")


class Dsse(BaseModel):
    """A DSSE envelope, as a JSON text, with the signer's certificate. Only hashes of it are logged."""

    kind: Literal["dsse"]
    api_version: Literal["0.0.1"] = Field(alias="apiVersion")
    spec: _DsseSpec

    def body(self, issuer: x509.Certificate) -> bytes:
        """The canonical body, once everything in it is verified. Raises EntryRefused."""
        proposed = self.spec.proposed_content
        try:
            envelope = _Envelope.model_validate_json(proposed.envelope)
        except ValidationError as error:
            raise EntryRefused("the envelope is not a DSSE envelope with one signature") from error
        key, verifier = _verifier(proposed.verifiers[0], issuer)
        payload = _decode(envelope.payload, "payload")
        signature = _decode(envelope.signatures[0].sig, "signatures[0].sig")
        _check(key, signature, pre_authentication_encoding(envelope.payload_type, payload), ec.ECDSA(hashes.SHA256()))
        spec: JsonValue = {
            "envelopeHash": _sha256(proposed.envelope.encode()),
            "payloadHash": _sha256(payload),
            "signatures": [{"signature": _encode(signature), "verifier": verifier}],
        }
        return rfc8785.dumps({"apiVersion": self.api_version, "kind": self.kind, "spec": spec})


_PROPOSED: TypeAdapter[HashedRekord | Dsse] = TypeAdapter(Annotated[HashedRekord | Dsse, Field(discriminator="kind")])


def canonical_body(proposed: bytes, issuer: x509.Certificate) -> bytes:
    """Check a proposed entry, a JSON text, and return what to log. Raises EntryRefused."""
    try:
        entry = _PROPOSED.validate_json(proposed)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "entry"
        raise EntryRefused(f"{place}: {fault['msg']}; hashedrekord 0.0.1 and dsse 0.0.1 are accepted") from error
    return entry.body(issuer)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature covers (DSSE v1.0, protocol: PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _verifier(content: str, issuer: x509.Certificate) -> tuple[ec.EllipticCurvePublicKey, str]:
    """The public key of a certificate (base64 of PEM), and its canonical form; only if `issuer` vouches for it now."""
    try:
        certificate = x509.load_pem_x509_certificate(_decode(content, "certificate"))
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise EntryRefused("the verifier is not a certificate of this sandbox's authority") from error
    if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
        raise EntryRefused("the certificate is not valid now")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise EntryRefused("the certificate's key is not an elliptic curve key")
    return key, _encode(pem(certificate))


def _check(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> None:
    try:
        key.verify(signature, data, algorithm)
    except InvalidSignature as error:
        raise EntryRefused("the signature does not verify with the certificate") from error


def _decode(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EntryRefused(f"{field} is not base64") from error


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _sha256(data: bytes) -> dict[str, JsonValue]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}
