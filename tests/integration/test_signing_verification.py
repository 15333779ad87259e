"""A bundle verifies for what it is about, and for nothing else, whatever is done to it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sigstore import dsse
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore_models.intoto import Envelope, Signature

from builder.sandbox.keys import Key
from builder.signing.signer import SignedBundle
from builder.signing.statement import COSIGN_SIGNATURE, SLSA_PROVENANCE, Statement
from builder.signing.trust import TrustInvalid
from builder.signing.verification import (
    BundleMalformed,
    IdentityMismatch,
    PredicateMismatch,
    StatementMalformed,
    SubjectMismatch,
    VerificationFailed,
)
from tests.integration.sandbox_server import DIGEST, STATEMENT, Sandbox

Bundle = dict[str, Any]


@pytest.fixture(scope="module")
def signed(sandbox: Sandbox) -> SignedBundle:
    return sandbox.signer().sign(STATEMENT)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"identity": "https://sandbox.invalid/other"}, IdentityMismatch),
        ({"identity": "https://sandbox.invalid/goldsmit"}, IdentityMismatch),
        ({"identity": ""}, IdentityMismatch),
        ({"issuer": "https://issuer.example"}, IdentityMismatch),
        ({"issuer": ""}, IdentityMismatch),
        ({"digest": "sha256:" + "00" * 32}, SubjectMismatch),
        ({"digest": "5a" * 32}, SubjectMismatch),
        ({"digest": ""}, SubjectMismatch),
        ({"predicate_type": COSIGN_SIGNATURE}, PredicateMismatch),
    ],
)
def test_another_expectation_is_not_met(
    sandbox: Sandbox, signed: SignedBundle, changed: dict[str, str], error: type[VerificationFailed]
) -> None:
    with pytest.raises(error):
        sandbox.verify(signed.bundle, **changed)


def test_any_predicate_type_is_accepted_only_when_none_is_asked_for(sandbox: Sandbox, signed: SignedBundle) -> None:
    assert sandbox.verify(signed.bundle, predicate_type=None).statement.predicate_type == SLSA_PROVENANCE


def test_another_instance_s_bundle_is_refused(sandbox: Sandbox, foreign: Sandbox, signed: SignedBundle) -> None:
    with pytest.raises(VerificationFailed, match="does not verify"):
        sandbox.verify(signed.bundle, trusted_root=foreign.trusted_root)


def test_a_trusted_root_that_cannot_be_read_is_the_operators_fault(signed: SignedBundle, sandbox: Sandbox) -> None:
    with pytest.raises(TrustInvalid, match=r"missing\.json"):
        sandbox.verify(signed.bundle, trusted_root=sandbox.state / "missing.json")
    with pytest.raises(TrustInvalid):
        sandbox.verify(signed.bundle, trusted_root=sandbox.client_trust_config)


def entry(bundle: Bundle) -> Any:
    return bundle["verificationMaterial"]["tlogEntries"][0]


def flipped(text: str) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[-1] ^= 1
    return base64.b64encode(raw).decode()


def tamper_payload(bundle: Bundle) -> None:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"5a5a", b"5a5b")
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()


def tamper_signature(bundle: Bundle) -> None:
    signature = bundle["dsseEnvelope"]["signatures"][0]
    signature["sig"] = flipped(signature["sig"])


def sign_again_with_another_key(bundle: Bundle) -> None:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    kind = bundle["dsseEnvelope"]["payloadType"].encode()
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(Key.generate().sign(encoded)).decode()


def change_payload_type(bundle: Bundle) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"


def tamper_certificate(bundle: Bundle) -> None:
    certificate = bundle["verificationMaterial"]["certificate"]
    certificate["rawBytes"] = flipped(certificate["rawBytes"])


def tamper_promise(bundle: Bundle) -> None:
    promise = entry(bundle)["inclusionPromise"]
    promise["signedEntryTimestamp"] = flipped(promise["signedEntryTimestamp"])


def remove_promise(bundle: Bundle) -> None:
    del entry(bundle)["inclusionPromise"]


def change_time(bundle: Bundle) -> None:
    entry(bundle)["integratedTime"] = str(int(entry(bundle)["integratedTime"]) + 1)


def remove_time(bundle: Bundle) -> None:
    entry(bundle)["integratedTime"] = "0"


def change_index(bundle: Bundle) -> None:
    entry(bundle)["logIndex"] = str(int(entry(bundle)["logIndex"]) + 1)


def remove_proof(bundle: Bundle) -> None:
    del entry(bundle)["inclusionProof"]


def tamper_proof(bundle: Bundle) -> None:
    proof = entry(bundle)["inclusionProof"]
    proof["hashes"][0] = flipped(proof["hashes"][0])


def move_in_another_tree(bundle: Bundle) -> None:
    """The last entry's path leads from there to the same root in a tree of this size, too."""
    proof = entry(bundle)["inclusionProof"]
    assert int(proof["logIndex"]) == int(proof["treeSize"]) - 1
    moved = int(proof["logIndex"]) * 2
    proof["logIndex"], proof["treeSize"] = str(moved), str(moved + 1)


def remove_checkpoint(bundle: Bundle) -> None:
    del entry(bundle)["inclusionProof"]["checkpoint"]


def tamper_checkpoint(bundle: Bundle) -> None:
    checkpoint = entry(bundle)["inclusionProof"]["checkpoint"]
    checkpoint["envelope"] = "x" + checkpoint["envelope"]


def tamper_body(bundle: Bundle) -> None:
    body = json.loads(base64.b64decode(entry(bundle)["canonicalizedBody"]))
    body["spec"]["payloadHash"]["value"] = "0" * 64
    entry(bundle)["canonicalizedBody"] = base64.b64encode(json.dumps(body).encode()).decode()


def remove_entry(bundle: Bundle) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def remove_envelope(bundle: Bundle) -> None:
    del bundle["dsseEnvelope"]


@pytest.mark.parametrize(
    "tamper",
    [
        tamper_payload,
        tamper_signature,
        sign_again_with_another_key,
        change_payload_type,
        tamper_certificate,
        tamper_promise,
        remove_promise,
        change_time,
        remove_time,
        change_index,
        remove_proof,
        tamper_proof,
        move_in_another_tree,
        remove_checkpoint,
        tamper_checkpoint,
        tamper_body,
        remove_entry,
        remove_envelope,
    ],
)
def test_a_tampered_bundle_is_refused(sandbox: Sandbox, signed: SignedBundle, tamper: Callable[[Bundle], None]) -> None:
    bundle = json.loads(signed.bundle)
    tamper(bundle)
    assert bundle != json.loads(signed.bundle)
    with pytest.raises(VerificationFailed) as caught:
        sandbox.verify(json.dumps(bundle).encode())
    assert caught.value.detail


@pytest.mark.parametrize("part", ["verificationMaterial", "dsseEnvelope"])
def test_parts_of_two_good_bundles_do_not_make_a_third(sandbox: Sandbox, signed: SignedBundle, part: str) -> None:
    other = json.loads(sandbox.signer().sign(Statement.signature("web", DIGEST)).bundle)
    mixed = {**json.loads(signed.bundle), part: other[part]}
    with pytest.raises(VerificationFailed):
        sandbox.verify(json.dumps(mixed).encode(), predicate_type=None)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"mediaType": 1}'])
def test_what_is_no_bundle_is_refused(sandbox: Sandbox, content: bytes) -> None:
    with pytest.raises(BundleMalformed):
        sandbox.verify(content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_a_mutated_bundle_is_refused_or_still_says_the_same(
    sandbox: Sandbox, signed: SignedBundle, position: float, value: int, cut: bool
) -> None:
    at = int(position * len(signed.bundle))
    mutated = signed.bundle[:at] + (b"" if cut else bytes([value])) + signed.bundle[at + 1 :]
    try:
        verified = sandbox.verify(mutated)
    except VerificationFailed:
        return
    # Some bytes carry no meaning, such as a name in a checkpoint's signature line: then nothing may have changed.
    assert verified == sandbox.verify(signed.bundle)


def sign_payload(sandbox: Sandbox, payload: bytes, payload_type: str) -> bytes:
    """A bundle that is genuine in everything but what it is about, made without our signer and its checks."""
    config = ClientTrustConfig.from_json(sandbox.client_trust_config.read_text())
    context = SigningContext.from_trust_config(config)
    with context.signer(IdentityToken(sandbox.credentials().token())) as signer:
        certificate = signer._signing_cert()
        kind = payload_type.encode()
        encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        signature = signer._private_key.sign(encoded, ec.ECDSA(hashes.SHA256()))
        envelope = dsse.Envelope(
            Envelope(
                payload=base64.b64encode(payload),
                payload_type=payload_type,
                signatures=[Signature(sig=base64.b64encode(signature))],
            )
        )
        request = context._rekor._build_dsse_request(envelope, certificate)
        return signer._finalize_sign(certificate, envelope, request).to_json().encode()


@pytest.mark.parametrize(
    ("payload", "payload_type"),
    [
        (STATEMENT.canonical(), "application/json"),
        (b"not json", "application/vnd.in-toto+json"),
        (STATEMENT.canonical().replace(b"Statement/v1", b"Statement/v9"), "application/vnd.in-toto+json"),
        (STATEMENT.canonical().replace(b'"subject":[{', b'"subject":[],"x":[{'), "application/vnd.in-toto+json"),
    ],
    ids=["payload type", "no JSON", "statement type", "no subject"],
)
def test_a_genuine_signature_over_something_else_is_refused(
    sandbox: Sandbox, payload: bytes, payload_type: str
) -> None:
    with pytest.raises(StatementMalformed):
        sandbox.verify(sign_payload(sandbox, payload, payload_type))
