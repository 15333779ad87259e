"""The sandbox over HTTP: an authority that certifies its own clients alone, and a log that only grows."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from builder.sandbox.app import MAX_BODY, create_app
from builder.sandbox.keys import Key
from builder.sandbox.oidc import CLIENT_ID, REBUILDER_ID, REBUILDER_IDENTITY
from builder.sandbox.state import State
from builder.signing.identity import IdentityRefused
from builder.signing.signer import SignedBundle, Signer
from builder.signing.verification import IdentityMismatch
from tests.integration.sandbox_server import STATEMENT, Sandbox, free_port, running_sandbox
from tests.unit.test_sandbox_merkle import consistent


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def signed(sandbox: Sandbox) -> SignedBundle:
    return sandbox.signer().sign(STATEMENT)


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
    answer = httpx.post(f"{sandbox.url}/api/v2/signingCert", **certificate_request(sandbox.token()))
    assert answer.status_code == 200
    assert len(answer.json()["signedCertificateEmbeddedSct"]["chain"]["certificates"]) == 3


@pytest.mark.parametrize(
    "refused",
    [
        lambda sandbox: sandbox.token(exp=int(time.time()) - 1),
        lambda sandbox: sandbox.token(aud="another"),
        lambda sandbox: sandbox.token(iss="https://issuer.example"),
        lambda sandbox: sandbox.token(key=Key.generate()),
        lambda sandbox: jwt.encode(jwt.decode(sandbox.token(), options={"verify_signature": False}), None, "none"),
        lambda sandbox: "not.a.token",
        lambda sandbox: "",
    ],
    ids=["expired", "wrong audience", "wrong issuer", "another key", "no algorithm", "no JWT", "none at all"],
)
def test_the_authority_refuses_any_other_token(sandbox: Sandbox, refused: Callable[[Sandbox], str]) -> None:
    answer = httpx.post(f"{sandbox.url}/api/v2/signingCert", **certificate_request(refused(sandbox)))
    assert answer.status_code == 401
    assert "identity token is not accepted" in answer.json()["message"]


def test_each_client_signs_as_itself(sandbox: Sandbox) -> None:
    bundle = sandbox.rebuilder().sign(STATEMENT).bundle
    sandbox.verify(bundle, identity=REBUILDER_IDENTITY)
    with pytest.raises(IdentityMismatch):
        sandbox.verify(bundle)


@pytest.mark.parametrize(("client", "secret"), [(CLIENT_ID, "rebuilder_secret"), (REBUILDER_ID, "client_secret")])
def test_no_client_signs_as_the_other(sandbox: Sandbox, client: str, secret: str) -> None:
    with pytest.raises(IdentityRefused, match="invalid_client"):
        Signer(sandbox.client_trust_config, sandbox.credentials(client, secret)).sign(STATEMENT)


def test_the_authority_wants_proof_of_the_key(sandbox: Sandbox) -> None:
    key = Key.generate()
    credentials = {"oidcIdentityToken": sandbox.token()}

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


# The log over HTTP


def test_an_entry_is_found_by_index_and_by_identifier(sandbox: Sandbox, signed: SignedBundle) -> None:
    entries = f"{sandbox.url}/api/v1/log/entries"
    by_index = httpx.get(entries, params={"logIndex": signed.log_index}, trust_env=False).json()
    ((uuid, found),) = by_index.items()
    body = json.loads(signed.bundle)["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
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


def test_an_endless_request_is_cut_off(tmp_path: Path) -> None:
    async def post(state: State) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(state))
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
            return await client.post("/api/v1/log/entries", content=bytes(MAX_BODY + 1))

    with State(tmp_path, "http://127.0.0.1:1") as state:
        answer = asyncio.run(post(state))
    assert answer.status_code == 413
