"""Nothing enters the log unless its signature verifies with a certificate the sandbox itself has just issued."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from builder.sandbox.certificates import Authority, create_authority, pem
from builder.sandbox.entries import EntryRefused, canonical_body, pre_authentication_encoding
from builder.sandbox.keys import Key

AUTHORITY = create_authority()
CT, SIGNER = Key.generate(), Key.generate()
PAYLOAD, TYPE = b'{"a":1}', "application/vnd.in-toto+json"

Proposal = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def certificate(authority: Authority = AUTHORITY) -> str:
    issued = authority.issue(SIGNER.private.public_key(), identity="a@example.com", issuer="http://i", ct=CT)
    return b64(pem(issued))


def envelope(payload: bytes = PAYLOAD, signer: Key = SIGNER, payload_type: str = TYPE) -> str:
    signature = signer.sign(pre_authentication_encoding(TYPE, PAYLOAD))
    return json.dumps({"payload": b64(payload), "payloadType": payload_type, "signatures": [{"sig": b64(signature)}]})


def dsse(envelope: str, verifier: str) -> Proposal:
    content = {"envelope": envelope, "verifiers": [verifier]}
    return {"kind": "dsse", "apiVersion": "0.0.1", "spec": {"proposedContent": content}}


def hashed(data: bytes, signer: Key, verifier: str) -> Proposal:
    spec = {
        "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(b"artifact").hexdigest()}},
        "signature": {"content": b64(signer.sign(data)), "publicKey": {"content": verifier}},
    }
    return {"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": spec}


def body(proposal: Proposal) -> Any:
    return json.loads(canonical_body(json.dumps(proposal).encode(), AUTHORITY.certificate))


def test_an_envelope_is_logged_by_its_hashes() -> None:
    text, verifier = envelope(), certificate()
    logged = body(dsse(text, verifier))
    assert logged["kind"] == "dsse"
    assert logged["spec"]["payloadHash"]["value"] == hashlib.sha256(PAYLOAD).hexdigest()
    assert logged["spec"]["envelopeHash"]["value"] == hashlib.sha256(text.encode()).hexdigest()
    assert logged["spec"]["signatures"][0]["verifier"] == verifier


def test_a_signed_digest_is_logged_as_it_is() -> None:
    proposal = hashed(b"artifact", SIGNER, certificate())
    assert body(proposal) == proposal


def expired() -> str:
    then = datetime.now(UTC) - timedelta(hours=1)
    issued = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(AUTHORITY.certificate.subject)
        .public_key(SIGNER.private.public_key())
        .serial_number(1)
        .not_valid_before(then)
        .not_valid_after(then + timedelta(minutes=10))
        .sign(AUTHORITY.key.private, hashes.SHA256())
    )
    return b64(pem(issued))


@pytest.mark.parametrize(
    ("proposal", "reason"),
    [
        (lambda: dsse(envelope(payload=b'{"a":2}'), certificate()), "does not verify"),
        (lambda: dsse(envelope(payload_type="text/plain"), certificate()), "does not verify"),
        (lambda: dsse(envelope(signer=Key.generate()), certificate()), "does not verify"),
        (lambda: dsse(envelope(), certificate(create_authority())), "not a certificate of this sandbox"),
        (lambda: dsse(envelope(), expired()), "not valid now"),
        (lambda: dsse(envelope(), b64(b"no certificate")), "not a certificate of this sandbox"),
        (lambda: dsse(envelope(), "not base64"), "not base64"),
        (lambda: dsse("{}", certificate()), "not a DSSE envelope"),
        (lambda: hashed(b"other", SIGNER, certificate()), "does not verify"),
        (lambda: hashed(b"artifact", Key.generate(), certificate()), "does not verify"),
        (lambda: hashed(b"artifact", SIGNER, certificate(create_authority())), "not a certificate of this sandbox"),
        (lambda: {**hashed(b"artifact", SIGNER, certificate()), "apiVersion": "0.0.2"}, "apiVersion"),
        (lambda: {"kind": "intoto", "apiVersion": "0.0.2", "spec": {}}, "are accepted"),
    ],
)
def test_what_does_not_hold_together_is_refused(proposal: Callable[[], Proposal], reason: str) -> None:
    with pytest.raises(EntryRefused, match=reason):
        body(proposal())


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_an_entry(proposed: bytes) -> None:
    with pytest.raises(EntryRefused):
        canonical_body(proposed, AUTHORITY.certificate)
