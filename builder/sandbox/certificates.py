"""The sandbox's certificate authority: a forgotten root, an intermediate, and leaves that live for ten minutes.

A leaf follows Fulcio's profile: an empty subject, the identity as a critical subject alternative name, the token's
issuer in two extensions, and one embedded certificate timestamp (RFC 6962, section 3.2).
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from builder.sandbox.keys import Key
from builder.sandbox.marking import ORGANISATION

LEAF_LIFETIME = timedelta(minutes=10)
_AUTHORITY_LIFETIME = timedelta(days=3653)
_ISSUER_V1 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_EMAIL = re.compile(r"[^@\s:/]+@[^@\s:/]+")


@dataclass(frozen=True)
class Authority:
    """An intermediate authority with its key, and the root above it."""

    key: Key
    certificate: x509.Certificate
    root: x509.Certificate

    def chain_pem(self) -> bytes:
        """The intermediate and the root, in this order."""
        return b"".join(pem(certificate) for certificate in (self.certificate, self.root))

    def issue(self, public_key: ec.EllipticCurvePublicKey, *, identity: str, issuer: str, ct: Key) -> x509.Certificate:
        """A leaf for `identity` (a URI or an e-mail address), vouched for by the OIDC `issuer`, with its timestamp."""
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + LEAF_LIFETIME)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(_key_identifier(self.key), critical=False)
            # With an empty subject the name stands here alone, and must be understood: RFC 5280, section 4.2.1.6.
            .add_extension(x509.SubjectAlternativeName([_general_name(identity)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V1, issuer.encode()), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V2, _der(0x0C, issuer.encode())), critical=False)
        )
        # The timestamp covers the certificate without the timestamp: built once without it, and once with it.
        unstamped = builder.sign(self.key.private, hashes.SHA256()).tbs_certificate_bytes
        stamp = x509.UnrecognizedExtension(_SCT_LIST, _timestamp_list(unstamped, self.key, ct, now))
        return builder.add_extension(stamp, critical=False).sign(self.key.private, hashes.SHA256())


def create_authority() -> Authority:
    """A new root and a new intermediate below it. The root's key exists only inside this call."""
    now = datetime.now(UTC).replace(microsecond=0)
    root_key, key = Key.generate(), Key.generate()
    root_name, name = _name("root"), _name("intermediate")
    root = _authority_builder(root_key, root_name, root_name, root_key, now, path_length=1)
    intermediate = _authority_builder(key, name, root_name, root_key, now, path_length=0).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
    )
    return Authority(
        key=key,
        certificate=intermediate.sign(root_key.private, hashes.SHA256()),
        root=root.sign(root_key.private, hashes.SHA256()),
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _authority_builder(
    key: Key,
    subject: x509.Name,
    issuer: x509.Name,
    issuer_key: Key,
    now: datetime,
    path_length: int,
) -> x509.CertificateBuilder:
    public_key = key.private.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_key_identifier(issuer_key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Goldsmith sandbox {common_name}"),
        ]
    )


def _general_name(identity: str) -> x509.GeneralName:
    if _EMAIL.fullmatch(identity):
        return x509.RFC822Name(identity)
    return x509.UniformResourceIdentifier(identity)


def _key_identifier(key: Key) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.private.public_key())


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _der(tag: int, data: bytes) -> bytes:
    size = len(data)
    if size < 128:
        return bytes([tag, size]) + data
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + data


def _timestamp_list(unstamped: bytes, issuer: Key, ct: Key, now: datetime) -> bytes:
    """The extension's value: an OCTET STRING holding a list of one timestamp (RFC 6962, sections 3.2 and 3.3)."""
    milliseconds = int(now.timestamp() * 1000)
    entry = hashlib.sha256(issuer.spki).digest() + len(unstamped).to_bytes(3, "big") + unstamped
    # version v1, certificate_timestamp, precert_entry, and no extensions.
    signature = ct.sign(struct.pack(">BBQH", 0, 0, milliseconds, 1) + entry + b"\x00\x00")
    algorithm = b"\x04\x03"  # SHA-256, ECDSA: RFC 5246, section 7.4.1.4.1
    timestamp = b"\x00" + ct.log_id + struct.pack(">QH", milliseconds, 0) + algorithm + _vector(signature)
    return _der(0x04, _vector(_vector(timestamp)))


def _vector(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
