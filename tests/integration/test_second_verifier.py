"""Sigstore's own verifier in JavaScript, which shares no code with ours, believes what we sign and nothing else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.signing.statement import CYCLONEDX_BOM, REPRODUCTION, SLSA_PROVENANCE, Statement, Subject
from scripts.stack.services import ROOT
from tests.integration.sandbox_server import DIGEST, STATEMENT, Sandbox
from tests.integration.test_signing_verification import (
    change_index,
    change_payload_type,
    change_time,
    flipped,
    sign_again_with_another_key,
    tamper_body,
    tamper_certificate,
    tamper_checkpoint,
    tamper_payload,
    tamper_promise,
    tamper_signature,
)

SCRIPT = Path(__file__).parent / "second_verifier/verify.cjs"
SUBJECT = Subject.of("registry.example/web", DIGEST)
STATEMENTS = {
    "provenance": STATEMENT,
    "signature": Statement.signature(SUBJECT.name, DIGEST),
    "sbom": Statement(subject=(SUBJECT,), predicateType=CYCLONEDX_BOM, predicate={"bomFormat": "CycloneDX"}),
}


def asked(sandbox: Sandbox, bundles: dict[str, Any], **changed: Any) -> dict[str, dict[str, str]]:
    question = {
        "trustedRoot": json.loads(sandbox.trusted_root.read_bytes()),
        "identity": sandbox.identity,
        "issuer": sandbox.issuer,
        "bundles": bundles,
        **changed,
    }
    modules = {"NODE_PATH": str(ROOT / ".goldsmith/second-verifier/node_modules")}
    ended = subprocess.run(
        ["node", SCRIPT], input=json.dumps(question), env={**os.environ, **modules}, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found: dict[str, dict[str, str]] = json.loads(ended.stdout)
    return found


@pytest.fixture(scope="module")
def bundles(sandbox: Sandbox) -> dict[str, Any]:
    return {name: json.loads(sandbox.signer().sign(one).bundle) for name, one in STATEMENTS.items()}


def test_it_verifies_each_kind_and_reads_the_same_statement(sandbox: Sandbox, bundles: dict[str, Any]) -> None:
    found = asked(sandbox, bundles)
    assert {one.get("payloadType") for one in found.values()} == {"application/vnd.in-toto+json"}, found
    read = {name: base64.b64decode(one["payload"]) for name, one in found.items()}
    assert read == {name: one.canonical() for name, one in STATEMENTS.items()}
    assert json.loads(read["provenance"])["predicateType"] == SLSA_PROVENANCE


def test_it_refuses_what_was_altered(sandbox: Sandbox, bundles: dict[str, Any]) -> None:
    def tamper_root(bundle: Any) -> None:
        """Its checkpoint has the root that counts; a proof that leads to another is refused."""
        proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
        proof["hashes"][0] = flipped(proof["hashes"][0])

    reasons = {
        tamper_payload: "TLOG_BODY_ERROR",
        tamper_signature: "TLOG_BODY_ERROR",
        sign_again_with_another_key: "TLOG_BODY_ERROR",
        change_payload_type: "SIGNATURE_ERROR",
        tamper_certificate: "CERTIFICATE_ERROR",
        tamper_promise: "TLOG_INCLUSION_PROMISE_ERROR",
        change_time: "TLOG_INCLUSION_PROMISE_ERROR",
        change_index: "TLOG_INCLUSION_PROMISE_ERROR",
        tamper_body: "TLOG_INCLUSION_PROMISE_ERROR",
        tamper_root: "TLOG_INCLUSION_PROOF_ERROR",
        tamper_checkpoint: "TLOG_INCLUSION_PROOF_ERROR",
    }
    altered = {}
    for tamper in reasons:
        altered[tamper.__name__] = json.loads(json.dumps(bundles["provenance"]))
        tamper(altered[tamper.__name__])
    found = asked(sandbox, altered)
    told = {name: one.get("refused", "it verifies").partition(":")[0] for name, one in found.items()}
    assert told == {tamper.__name__: reason for tamper, reason in reasons.items()}, found


def test_it_refuses_other_signers_and_other_instances(
    sandbox: Sandbox, foreign: Sandbox, bundles: dict[str, Any]
) -> None:
    matched = Statement(subject=(SUBJECT,), predicateType=REPRODUCTION, predicate={"matched": {}})
    rebuilt = {"rebuilt": json.loads(sandbox.rebuilder().sign(matched).bundle)}
    for given, changed in (
        (rebuilt, {}),
        (bundles, {"identity": sandbox.identity[:-1]}),
        (bundles, {"issuer": "https://issuer.example"}),
    ):
        told = [one.get("refused", "it verifies") for one in asked(sandbox, given, **changed).values()]
        assert all(one.startswith("UNTRUSTED_SIGNER_ERROR") for one in told), told
    root = json.loads(foreign.trusted_root.read_bytes())
    told = [one.get("refused", "it verifies") for one in asked(sandbox, bundles, trustedRoot=root).values()]
    assert all(one.startswith("TLOG_INCLUSION_PROMISE_ERROR") for one in told), told  # it looks at the log first
