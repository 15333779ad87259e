"""What the signer signs through a real sandbox verifies, here and with other people's tools; nothing else does."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sigstore import dsse
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore_models.intoto import Envelope, Signature

from builder.errors import GoldsmithError
from builder.sandbox.keys import Key
from builder.signing.identity import ClientCredentials, IdentityRefused, IdentityUnavailable, TokenFile
from builder.signing.signer import SignedBundle, Signer, SignerUnavailable, SigningFailed
from builder.signing.slsa import BuildDefinition, Builder, Provenance, RunDetails
from builder.signing.statement import COSIGN_SIGNATURE, SLSA_PROVENANCE, Statement, Subject
from builder.signing.trust import TrustInvalid
from builder.signing.verification import (
    BundleMalformed,
    IdentityMismatch,
    PredicateMismatch,
    StatementMalformed,
    SubjectMismatch,
    VerificationFailed,
    VerifiedStatement,
    verify_bundle,
)
from tests.integration.sandbox_server import Sandbox, free_port, running_sandbox
from tests.unit.test_sandbox_merkle import consistent

DIGEST = "sha256:" + "5a" * 32
STATEMENT = Provenance(
    build_definition=BuildDefinition(build_type="https://goldsmith.example/build/v1", external_parameters={"n": 1}),
    run_details=RunDetails(builder=Builder(id="https://goldsmith.example/builder")),
).statement(Subject.of("registry.example/web", DIGEST))

Bundle = dict[str, Any]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("foreign") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def signed(sandbox: Sandbox) -> SignedBundle:
    return sandbox.signer().sign(STATEMENT)


def verify(sandbox: Sandbox, bundle: bytes, **changed: Any) -> VerifiedStatement:
    expected: dict[str, Any] = {
        "trusted_root": sandbox.trusted_root,
        "identity": sandbox.identity,
        "issuer": sandbox.issuer,
        "digest": DIGEST,
        "predicate_type": SLSA_PROVENANCE,
    }
    return verify_bundle(bundle, **{**expected, **changed})


# Signing


def test_a_signed_statement_verifies_offline_and_says_who_and_when(sandbox: Sandbox, signed: SignedBundle) -> None:
    verified = verify(sandbox, signed.bundle)
    assert verified.statement == STATEMENT
    assert (verified.identity, verified.issuer) == (sandbox.identity, sandbox.issuer)
    assert (signed.identity, signed.issuer) == (sandbox.identity, sandbox.issuer)
    assert verified.log_index == signed.log_index >= 1
    assert verified.integrated_time == signed.integrated_time
    assert verified.integrated_time is not None
    assert abs((datetime.now(UTC) - verified.integrated_time).total_seconds()) < 120
    assert verified.sandbox
    assert signed.sandbox


def test_one_signer_signs_a_whole_release_with_one_certificate(sandbox: Sandbox) -> None:
    signer = sandbox.signer()
    statements = [Statement.signature("registry.example/web", DIGEST), STATEMENT]
    bundles = [signer.sign(statement) for statement in statements]
    assert [bundle.predicate_type for bundle in bundles] == [COSIGN_SIGNATURE, SLSA_PROVENANCE]
    certificates = {json.loads(each.bundle)["verificationMaterial"]["certificate"]["rawBytes"] for each in bundles}
    assert len(certificates) == 1
    assert bundles[1].log_index == bundles[0].log_index + 1


def test_bundles_verify_after_the_sandbox_moved_to_another_port(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "state") as before:
        bundle = before.signer().sign(STATEMENT).bundle
    with running_sandbox(tmp_path / "state") as after:
        assert after.url != before.url
        verified = verify(after, bundle, issuer=before.issuer)
        assert after.signer().sign(STATEMENT).log_index == verified.log_index + 1


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert sandbox.signer().sign(STATEMENT).log_index >= 1


def test_a_large_inventory_can_be_signed(sandbox: Sandbox) -> None:
    files = {f"/usr/share/doc/package-{number}/copyright": f"{number:064x}" for number in range(10_000)}
    inventory = Statement(
        subject=(Subject.of("web", DIGEST),), predicateType="https://example.com/inventory", predicate={"files": files}
    )
    bundle = sandbox.signer().sign(inventory).bundle
    assert verify(sandbox, bundle, predicate_type="https://example.com/inventory").statement == inventory


# Other people's verifiers


def sigstore(
    sandbox: Sandbox, bundle: bytes, directory: Path, identity: str, digest: str
) -> subprocess.CompletedProcess[str]:
    (directory / "bundle.json").write_bytes(bundle)
    argv = [sys.executable, "-m", "sigstore", "--trust-config", str(sandbox.client_trust_config), "verify", "identity"]
    argv += ["--offline", "--bundle", str(directory / "bundle.json"), "--cert-identity", identity]
    argv += ["--cert-oidc-issuer", sandbox.issuer, digest]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_the_sigstore_command_line_verifies_it(sandbox: Sandbox, signed: SignedBundle, tmp_path: Path) -> None:
    ended = sigstore(sandbox, signed.bundle, tmp_path, sandbox.identity, DIGEST)
    assert ended.returncode == 0, ended.stderr
    assert "OK" in ended.stderr + ended.stdout


@pytest.mark.parametrize("wrong", ["identity", "digest"])
def test_the_sigstore_command_line_refuses_what_is_wrong(
    sandbox: Sandbox, signed: SignedBundle, tmp_path: Path, wrong: str
) -> None:
    identity = "https://sandbox.invalid/other" if wrong == "identity" else sandbox.identity
    digest = "sha256:" + "00" * 32 if wrong == "digest" else DIGEST
    assert sigstore(sandbox, signed.bundle, tmp_path, identity, digest).returncode != 0


# Verification refuses


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
        verify(sandbox, signed.bundle, **changed)


def test_any_predicate_type_is_accepted_only_when_none_is_asked_for(sandbox: Sandbox, signed: SignedBundle) -> None:
    assert verify(sandbox, signed.bundle, predicate_type=None).statement.predicate_type == SLSA_PROVENANCE


def test_another_instance_s_bundle_is_refused(sandbox: Sandbox, foreign: Sandbox, signed: SignedBundle) -> None:
    with pytest.raises(VerificationFailed, match="does not verify"):
        verify(sandbox, signed.bundle, trusted_root=foreign.trusted_root)


def test_a_trusted_root_that_cannot_be_read_is_the_operators_fault(signed: SignedBundle, sandbox: Sandbox) -> None:
    with pytest.raises(TrustInvalid, match=r"missing\.json"):
        verify(sandbox, signed.bundle, trusted_root=sandbox.state / "missing.json")
    with pytest.raises(TrustInvalid):
        verify(sandbox, signed.bundle, trusted_root=sandbox.client_trust_config)


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
        verify(sandbox, json.dumps(bundle).encode())
    assert caught.value.detail


@pytest.mark.parametrize("part", ["verificationMaterial", "dsseEnvelope"])
def test_parts_of_two_good_bundles_do_not_make_a_third(sandbox: Sandbox, signed: SignedBundle, part: str) -> None:
    other = json.loads(sandbox.signer().sign(Statement.signature("web", DIGEST)).bundle)
    mixed = {**json.loads(signed.bundle), part: other[part]}
    with pytest.raises(VerificationFailed):
        verify(sandbox, json.dumps(mixed).encode(), predicate_type=None)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"mediaType": 1}'])
def test_what_is_no_bundle_is_refused(sandbox: Sandbox, content: bytes) -> None:
    with pytest.raises(BundleMalformed):
        verify(sandbox, content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_a_mutated_bundle_is_refused_or_still_says_the_same(
    sandbox: Sandbox, signed: SignedBundle, position: float, value: int, cut: bool
) -> None:
    at = int(position * len(signed.bundle))
    mutated = signed.bundle[:at] + (b"" if cut else bytes([value])) + signed.bundle[at + 1 :]
    try:
        verified = verify(sandbox, mutated)
    except VerificationFailed:
        return
    # Some bytes carry no meaning, such as a name in a checkpoint's signature line: then nothing may have changed.
    assert verified == verify(sandbox, signed.bundle)


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
        verify(sandbox, sign_payload(sandbox, payload, payload_type))


# Services that are not there, or not themselves


def config_with(sandbox: Sandbox, directory: Path, change: Callable[[Bundle], None]) -> Path:
    config = json.loads(sandbox.client_trust_config.read_text())
    change(config)
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return path


def signer_at(sandbox: Sandbox, directory: Path, service: str, url: str, time_limit: float) -> Signer:
    def change(config: Bundle) -> None:
        config["signingConfig"][service][0]["url"] = url

    return Signer(config_with(sandbox, directory, change), sandbox.credentials(), time_limit=time_limit)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server that never falls silent for long, and never comes to an end."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not stop.wait(0.1):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    def accept(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()


@pytest.mark.parametrize("service", ["caUrls", "rekorTlogUrls"])
def test_a_dead_service_is_named(sandbox: Sandbox, tmp_path: Path, service: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SignerUnavailable, match=url) as caught:
        signer_at(sandbox, tmp_path, service, url, 10).sign(STATEMENT)
    assert caught.value.retryable


@pytest.mark.parametrize("behaviour", ["silent", "dripping"])
@pytest.mark.parametrize("service", ["caUrls", "rekorTlogUrls"])
def test_a_service_that_never_answers_is_given_up_in_time(
    sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest, service: str, behaviour: str
) -> None:
    signer = signer_at(sandbox, tmp_path, service, request.getfixturevalue(behaviour), 1.0)
    started = time.monotonic()
    with pytest.raises(SignerUnavailable):
        signer.sign(STATEMENT)
    assert time.monotonic() - started < 3


def test_a_token_endpoint_that_never_answers_is_given_up_in_time(sandbox: Sandbox, silent: str) -> None:
    source = ClientCredentials(f"{silent}/oidc/token", "goldsmith", sandbox.state / "client_secret", timeout=0.5)
    started = time.monotonic()
    with pytest.raises(IdentityUnavailable, match="no answer in time"):
        Signer(sandbox.client_trust_config, source).sign(STATEMENT)
    assert time.monotonic() - started < 3


def test_a_signer_recovers_when_the_service_does(sandbox: Sandbox, tmp_path: Path) -> None:
    state, port = tmp_path / "state", free_port()
    with running_sandbox(state, port) as running:
        signer = running.signer()
        first = signer.sign(STATEMENT)
    with pytest.raises(SignerUnavailable):
        signer.sign(STATEMENT)
    with running_sandbox(state, port):
        assert signer.sign(STATEMENT).log_index == first.log_index + 1


def test_a_log_with_another_key_is_found_out_before_anything_is_published(
    sandbox: Sandbox, foreign: Sandbox, tmp_path: Path
) -> None:
    def change(config: Bundle) -> None:
        config["trustedRoot"]["tlogs"] = json.loads(foreign.trusted_root.read_text())["tlogs"]

    signer = Signer(config_with(sandbox, tmp_path, change), sandbox.credentials())
    with pytest.raises(SigningFailed, match="does not verify"):
        signer.sign(STATEMENT)


def test_an_authority_that_is_not_the_trusted_one_is_found_out(
    sandbox: Sandbox, foreign: Sandbox, tmp_path: Path
) -> None:
    def change(config: Bundle) -> None:
        config["trustedRoot"] = json.loads(foreign.trusted_root.read_text())

    signer = Signer(config_with(sandbox, tmp_path, change), sandbox.credentials())
    with pytest.raises(SigningFailed, match="SCT"):
        signer.sign(STATEMENT)


def test_a_log_of_another_instance_takes_no_entry_of_ours(sandbox: Sandbox, foreign: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SigningFailed, match="not a certificate of this sandbox"):
        signer_at(sandbox, tmp_path, "rekorTlogUrls", foreign.url, 10).sign(STATEMENT)


# Identities that are not accepted


def token(sandbox: Sandbox, key: Key | None = None, **changed: object) -> str:
    now = int(time.time())
    usual = {"iss": sandbox.issuer, "sub": sandbox.identity, "aud": "sigstore", "iat": now, "exp": now + 60}
    private = (key or Key.load(sandbox.state / "private" / "oidc.pem")).private
    return jwt.encode({**usual, **changed}, private, algorithm="ES256")


def certificate_request(token: str) -> dict[str, Any]:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    pem = signed.public_bytes(serialization.Encoding.PEM)
    return {
        "json": {"certificateSigningRequest": base64.b64encode(pem).decode()},
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "trust_env": False,
    }


def test_the_authority_takes_a_good_token(sandbox: Sandbox) -> None:
    answer = httpx.post(f"{sandbox.url}/api/v2/signingCert", **certificate_request(token(sandbox)))
    assert answer.status_code == 200
    assert len(answer.json()["signedCertificateEmbeddedSct"]["chain"]["certificates"]) == 3


@pytest.mark.parametrize(
    "refused",
    [
        lambda sandbox: token(sandbox, exp=int(time.time()) - 1),
        lambda sandbox: token(sandbox, aud="another"),
        lambda sandbox: token(sandbox, iss="https://issuer.example"),
        lambda sandbox: token(sandbox, key=Key.generate()),
        lambda sandbox: jwt.encode(jwt.decode(token(sandbox), options={"verify_signature": False}), None, "none"),
        lambda sandbox: "not.a.token",
        lambda sandbox: "",
    ],
    ids=["expired", "wrong audience", "wrong issuer", "another key", "no algorithm", "no JWT", "none at all"],
)
def test_the_authority_refuses_any_other_token(sandbox: Sandbox, refused: Callable[[Sandbox], str]) -> None:
    answer = httpx.post(f"{sandbox.url}/api/v2/signingCert", **certificate_request(refused(sandbox)))
    assert answer.status_code == 401
    assert "identity token is not accepted" in answer.json()["message"]


def test_the_authority_wants_proof_of_the_key(sandbox: Sandbox) -> None:
    key = Key.generate()
    credentials = {"oidcIdentityToken": token(sandbox)}

    def ask(proof: bytes) -> httpx.Response:
        request = {
            "publicKey": {"algorithm": "ECDSA", "content": key.public_pem.decode()},
            "proofOfPossession": base64.b64encode(proof).decode(),
        }
        body = {"credentials": credentials, "publicKeyRequest": request}
        return httpx.post(f"{sandbox.url}/api/v2/signingCert", json=body, trust_env=False)

    assert ask(key.sign(sandbox.identity.encode())).status_code == 200
    assert ask(key.sign(b"another identity")).status_code == 400
    assert ask(Key.generate().sign(sandbox.identity.encode())).status_code == 400


@pytest.mark.parametrize(
    "claims", [{"aud": "another"}, {"exp": int(time.time()) - 60}, {"key": Key.generate()}], ids=str
)
def test_a_signer_with_a_refused_token_says_so_without_showing_it(
    sandbox: Sandbox, tmp_path: Path, claims: dict[str, Any]
) -> None:
    refused = token(sandbox, **claims)
    (tmp_path / "token").write_text(refused)
    with pytest.raises(IdentityRefused) as caught:
        Signer(sandbox.client_trust_config, TokenFile(tmp_path / "token")).sign(STATEMENT)
    assert not any(part in str(caught.value) for part in refused.split("."))


def test_a_client_with_the_wrong_secret_is_told_so(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary-secret")
    source = ClientCredentials(f"{sandbox.url}/oidc/token", "goldsmith", tmp_path / "secret")
    with pytest.raises(IdentityRefused, match="invalid_client") as caught:
        Signer(sandbox.client_trust_config, source).sign(STATEMENT)
    assert "canary-secret" not in str(caught.value)


def test_a_trust_configuration_that_cannot_be_used_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrustInvalid, match=r"config\.json") as caught:
        Signer(tmp_path / "config.json", sandbox.credentials()).sign(STATEMENT)
    assert isinstance(caught.value, GoldsmithError)


# The log over HTTP


def test_an_entry_is_found_by_index_and_by_identifier(sandbox: Sandbox, signed: SignedBundle) -> None:
    entries = f"{sandbox.url}/api/v1/log/entries"
    by_index = httpx.get(entries, params={"logIndex": signed.log_index}, trust_env=False).json()
    ((uuid, found),) = by_index.items()
    body = entry(json.loads(signed.bundle))["canonicalizedBody"]
    assert found["body"] == body
    for name in (uuid, uuid[16:]):
        assert httpx.get(f"{entries}/{name}", trust_env=False).json()[uuid]["body"] == body
    assert httpx.get(entries, params={"logIndex": 10**6}, trust_env=False).status_code == 404
    assert httpx.get(f"{entries}/{'0' * 64}", trust_env=False).status_code == 404
    assert httpx.get(f"{entries}/nonsense", trust_env=False).status_code == 422


def test_the_log_proves_that_it_only_grows(sandbox: Sandbox) -> None:
    def head() -> dict[str, Any]:
        content: dict[str, Any] = httpx.get(f"{sandbox.url}/api/v1/log", trust_env=False).json()
        return content

    before = head()
    sandbox.signer().sign(STATEMENT)
    after = head()
    sizes = {"firstSize": before["treeSize"], "lastSize": after["treeSize"]}
    proof = httpx.get(f"{sandbox.url}/api/v1/log/proof", params=sizes, trust_env=False).json()
    assert proof["rootHash"] == after["rootHash"]
    roots = [bytes.fromhex(each["rootHash"]) for each in (before, after)]
    assert consistent(before["treeSize"], after["treeSize"], *roots, [bytes.fromhex(each) for each in proof["hashes"]])


def test_the_same_entry_is_not_logged_twice(sandbox: Sandbox, signed: SignedBundle) -> None:
    bundle = json.loads(signed.bundle)
    certificate = x509.load_der_x509_certificate(
        base64.b64decode(bundle["verificationMaterial"]["certificate"]["rawBytes"])
    )
    verifier = base64.b64encode(certificate.public_bytes(serialization.Encoding.PEM)).decode()
    content = {"envelope": json.dumps(bundle["dsseEnvelope"]), "verifiers": [verifier]}
    proposal = {"kind": "dsse", "apiVersion": "0.0.1", "spec": {"proposedContent": content}}
    answers = [httpx.post(f"{sandbox.url}/api/v1/log/entries", json=proposal, trust_env=False) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 409]
    assert httpx.get(f"{sandbox.url}{answers[1].headers['Location']}", trust_env=False).json() is not None


def test_it_says_that_it_is_healthy_and_a_sandbox(sandbox: Sandbox) -> None:
    health = httpx.get(f"{sandbox.url}/healthz", trust_env=False).json()
    assert health["status"] == "ok"
    assert health["operator"] == "Goldsmith sandbox (not for production)"


def test_a_second_process_on_the_same_state_is_refused(sandbox: Sandbox) -> None:
    argv = [sys.executable, "-m", "builder.sandbox", "--state", str(sandbox.state), "--port", str(free_port())]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "held by another sandbox" in ended.stderr
