"""Certificate requests as Fulcio takes them, and the proof in each that the requester holds the key.

`POST /api/v2/signingCert` carries the token in the Authorization header or in the body, and the key either in a
PKCS #10 request, which proves possession by itself, or bare with a signature over the token's subject.
"""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, Field, ValidationError

from builder.sandbox.oidc import Claims


class RequestRefused(Exception):
    """A certificate request that cannot be granted; the text says why."""


class _Credentials(BaseModel):
    token: str = Field(alias="oidcIdentityToken")


class _PublicKey(BaseModel):
    content: str


class _PublicKeyRequest(BaseModel):
    public_key: _PublicKey = Field(alias="publicKey")
    proof: str = Field(alias="proofOfPossession")


class CertificateRequest(BaseModel):
    """The body of a request. Exactly one of the two forms of key is used; the first wins."""

    credentials: _Credentials | None = None
    signing_request: str | None = Field(default=None, alias="certificateSigningRequest")
    key_request: _PublicKeyRequest | None = Field(default=None, alias="publicKeyRequest")

    @classmethod
    def parse(cls, body: bytes) -> CertificateRequest:
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise RequestRefused("the body is not a certificate request") from error

    def token(self, authorization: str | None) -> str:
        """The identity token, or an empty text, which no issuer signs."""
        scheme, _, bearer = (authorization or "").partition(" ")
        if scheme.lower() == "bearer":
            return bearer.strip()
        return self.credentials.token if self.credentials else ""

    def proven_key(self, claims: Claims) -> ec.EllipticCurvePublicKey:
        """The requester's public key, once possession is proven. Raises RequestRefused."""
        try:
            if self.signing_request is not None:
                key = _from_signing_request(base64.b64decode(self.signing_request, validate=True))
            elif self.key_request is not None:
                key = _from_key_request(self.key_request, claims)
            else:
                raise RequestRefused("there is no key in the request")
        except (binascii.Error, ValueError, InvalidSignature) as error:
            raise RequestRefused("possession of the key is not proven") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise RequestRefused("only elliptic curve keys are certified")
        return key


def _from_signing_request(pem: bytes) -> object:
    request = x509.load_pem_x509_csr(pem)
    if not request.is_signature_valid:
        raise InvalidSignature
    return request.public_key()


def _from_key_request(request: _PublicKeyRequest, claims: Claims) -> object:
    key = serialization.load_pem_public_key(request.public_key.content.encode())
    if isinstance(key, ec.EllipticCurvePublicKey):
        proof = base64.b64decode(request.proof, validate=True)
        key.verify(proof, claims.sub.encode(), ec.ECDSA(hashes.SHA256()))
    return key
