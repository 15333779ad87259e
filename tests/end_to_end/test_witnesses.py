"""Tools that we did not write confirm what we claim of a released image, and refuse what was altered."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from builder.image.digests import digest_of
from builder.image.documents import parse_manifest
from builder.ledger.note import parse_key
from builder.ledger.proof import parse_proof
from builder.merkle.proofs import ProofInvalid
from builder.registry.artifact import BUNDLE, bundle_manifest
from builder.registry.reference import Repository
from scripts.stack.services import ROOT, Stack
from tests.end_to_end.world import Goldsmith, Released

PREDICATE = "https://slsa.dev/provenance/v1"
# What is signed of an image beside its provenance, by predicate type.
BESIDE = [
    "https://sigstore.dev/cosign/sign/v1",
    "https://in-toto.io/attestation/test-result/v0.1",
    "https://in-toto.io/attestation/vulns/v0.1",
    "https://slsa.dev/verification_summary/v1",
    "https://cyclonedx.org/bom",
    "https://in-toto.io/attestation/reference/v0.1",
]


def run(*argv: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in argv], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **(env or {})},
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(goldsmith: Goldsmith, web: Released) -> bytes:
    return goldsmith.api.get(f"/v1/images/{web.digest}/provenance").raise_for_status().content


@pytest.fixture(scope="module")
def other_trust(goldsmith: Goldsmith, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trust files of another instance, which never signed anything here."""
    stack = Stack(tmp_path_factory.mktemp("other-sigstore"), any_ports=True)
    stack.start("sigstore")
    stack.process("sigstore").stop()
    return stack.sigstore_state


def altered(bundle: bytes) -> bytes:
    """The same bundle with another requester in its statement."""
    document = json.loads(bundle)
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    statement["predicate"]["buildDefinition"]["internalParameters"]["requester"] = "somebody-else"
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(document).encode()


class TestSigstore:
    """The stock `sigstore` command, with the instance's trust configuration and nothing else."""

    def verify(
        self, goldsmith: Goldsmith, bundle: bytes, digest: str, tmp_path: Path, **other: str
    ) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "bundle.json"
        file.write_bytes(bundle)
        trust = other.get("trust", str(goldsmith.stack.sigstore_state / "client_trust_config.json"))
        return run(
            Path(sys.executable).parent / "sigstore", "--trust-config", trust, "verify", "identity", "--offline",
            "--bundle", file, "--cert-identity", other.get("identity", goldsmith.client["identity"]),
            "--cert-oidc-issuer", other.get("issuer", goldsmith.client["issuer"]), digest,
        )  # fmt: skip

    def test_accepts_the_provenance(self, goldsmith: Goldsmith, web: Released, bundle: bytes, tmp_path: Path) -> None:
        done = self.verify(goldsmith, bundle, web.digest, tmp_path)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("kind", ["signature", "tests", "scan", "verdict", "sbom", "references"])
    def test_accepts_everything_that_is_signed_beside_it(
        self, goldsmith: Goldsmith, web: Released, tmp_path: Path, kind: str
    ) -> None:
        found = goldsmith.api.get(f"/v1/images/{web.digest}/attestations/{kind}").raise_for_status().content
        done = self.verify(goldsmith, found, web.digest, tmp_path)
        assert done.returncode == 0, done.stderr
        assert self.verify(goldsmith, found, "sha256:" + "0" * 64, tmp_path).returncode != 0

    def test_refuses_an_altered_statement(
        self, goldsmith: Goldsmith, web: Released, bundle: bytes, tmp_path: Path
    ) -> None:
        assert self.verify(goldsmith, altered(bundle), web.digest, tmp_path).returncode != 0

    def test_refuses_another_image(self, goldsmith: Goldsmith, bundle: bytes, tmp_path: Path) -> None:
        assert self.verify(goldsmith, bundle, "sha256:" + "0" * 64, tmp_path).returncode != 0

    def test_refuses_another_identity(self, goldsmith: Goldsmith, web: Released, bundle: bytes, tmp_path: Path) -> None:
        done = self.verify(goldsmith, bundle, web.digest, tmp_path, identity="https://sandbox.invalid/other")
        assert done.returncode != 0

    def test_refuses_another_root(
        self, goldsmith: Goldsmith, web: Released, bundle: bytes, tmp_path: Path, other_trust: Path
    ) -> None:
        trust = str(other_trust / "client_trust_config.json")
        assert self.verify(goldsmith, bundle, web.digest, tmp_path, trust=trust).returncode != 0


class TestCosign:
    """Debian's cosign, reading bundle and image from the registry."""

    def verify(
        self, cosign: Path, goldsmith: Goldsmith, reference: str, trust: Path | None = None, **other: str
    ) -> subprocess.CompletedProcess[str]:
        trust = trust or goldsmith.stack.sigstore_state
        return run(
            cosign, "verify-attestation", "--new-bundle-format", "--type", other.get("kind", "slsaprovenance1"),
            "--trusted-root", trust / "trusted_root.json", "--allow-http-registry",
            "--certificate-identity", other.get("identity", goldsmith.client["identity"]),
            "--certificate-oidc-issuer", other.get("issuer", goldsmith.client["issuer"]), reference,
            env={
                # Only to keep cosign from asking the public instance for its root: trust comes from --trusted-root.
                "SIGSTORE_ROOT_FILE": str(trust / "chain.pem"),
                "SIGSTORE_REKOR_PUBLIC_KEY": str(trust / "rekor.pub"),
                "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE": str(trust / "ctfe.pub"),
            },
        )  # fmt: skip

    def test_accepts_the_provenance(self, cosign: Path, goldsmith: Goldsmith, web: Released) -> None:
        done = self.verify(cosign, goldsmith, web.reference)
        assert done.returncode == 0, done.stderr
        statement = _statement(done.stdout + done.stderr)
        assert statement is None or statement["predicateType"] == PREDICATE

    @pytest.mark.parametrize("kind", BESIDE)
    def test_accepts_everything_that_is_signed_beside_it(
        self, cosign: Path, goldsmith: Goldsmith, web: Released, kind: str
    ) -> None:
        done = self.verify(cosign, goldsmith, web.reference, kind=kind)
        assert done.returncode == 0, done.stderr
        statement = _statement(done.stdout + done.stderr)
        assert statement is None or statement["predicateType"] == kind

    def test_refuses_another_identity(self, cosign: Path, goldsmith: Goldsmith, web: Released) -> None:
        done = self.verify(cosign, goldsmith, web.reference, identity="https://sandbox.invalid/other")
        assert done.returncode != 0

    def test_refuses_another_issuer(self, cosign: Path, goldsmith: Goldsmith, web: Released) -> None:
        assert self.verify(cosign, goldsmith, web.reference, issuer="http://127.0.0.1:1").returncode != 0

    def test_refuses_another_root(self, cosign: Path, goldsmith: Goldsmith, web: Released, other_trust: Path) -> None:
        assert self.verify(cosign, goldsmith, web.reference, trust=other_trust).returncode != 0

    def test_refuses_an_altered_bundle_in_the_registry(
        self, cosign: Path, goldsmith: Goldsmith, web: Released, bundle: bytes
    ) -> None:
        registry = goldsmith.registry
        copy = Repository(goldsmith.stack.registry, "test/altered")
        image = registry.images.copy(
            goldsmith.repository(web), web.digest, copy, spool_dir=goldsmith.stack.state / "state/spool"
        )
        registry.blobs.push_bytes(copy, b"{}", "application/vnd.oci.empty.v1+json")

        def attach(content: bytes) -> None:
            blob = registry.blobs.push_bytes(copy, content, BUNDLE)
            artifact = bundle_manifest(image, blob, predicate_type=PREDICATE, created="2026-01-01T00:00:00Z")
            registry.referrers.attach(copy, artifact)

        attach(altered(bundle))
        assert self.verify(cosign, goldsmith, f"{copy}@{web.digest}").returncode != 0
        attach(bundle)  # the same place with the true one: it was the alteration that was refused
        assert self.verify(cosign, goldsmith, f"{copy}@{web.digest}").returncode == 0


class TestSkopeo:
    def test_reads_the_image_by_tag_and_digest(self, goldsmith: Goldsmith, web: Released) -> None:
        repository = web.reference.partition("@")[0]
        by_tag = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{repository}:latest").stdout)
        assert by_tag["Digest"] == web.digest
        assert {"1", "latest"} <= set(by_tag["RepoTags"])
        assert by_tag["Labels"]["org.opencontainers.image.title"] == "web"
        config = json.loads(
            run("skopeo", "inspect", "--tls-verify=false", "--config", f"docker://{web.reference}").stdout
        )
        assert config["config"]["User"] == "10001:10001"
        assert config["config"]["ExposedPorts"] == {"8080/tcp": {}}
        assert config["config"]["StopSignal"] == "SIGQUIT"

    def test_a_child_shares_its_bases_layers_and_adds_one(self, goldsmith: Goldsmith, web: Released) -> None:
        base = goldsmith.build(web.build["waitsFor"])["result"]["reference"]

        def layers(reference: str) -> list[str]:
            found: list[str] = json.loads(
                run("skopeo", "inspect", "--tls-verify=false", f"docker://{reference}").stdout
            )["Layers"]
            return found

        assert layers(web.reference)[:-1] == layers(base)

    def test_copies_it_whole(self, web: Released, tmp_path: Path) -> None:
        done = run("skopeo", "copy", "--src-tls-verify=false", f"docker://{web.reference}", f"oci:{tmp_path / 'copy'}")
        assert done.returncode == 0, done.stderr
        index = json.loads((tmp_path / "copy/index.json").read_text())
        assert index["manifests"][0]["digest"] == web.digest


def test_trivy_reads_our_sbom(goldsmith: Goldsmith, web: Released, tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    file.write_bytes(goldsmith.api.get(f"/v1/images/{web.digest}/sbom").content)
    done = run(
        Path(sys.executable).parent / "trivy", "sbom", "--format", "spdx-json", "--cache-dir", tmp_path / "cache",
        "--skip-version-check", "--disable-telemetry", file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert any(package["name"] == "nginx" for package in json.loads(done.stdout)["packages"])


def test_in_toto_accepts_statement_and_provenance(bundle: bytes, web: Released) -> None:
    payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    statement = Statement.copy_from_pb(ParseDict(payload, statement_pb2.Statement()))
    statement.validate()
    assert statement.pb.subject[0].digest["sha256"] == web.digest.removeprefix("sha256:")
    provenance = ParseDict(payload["predicate"], provenance_pb2.Provenance())
    names = {dependency.name for dependency in provenance.build_definition.resolved_dependencies}
    assert {"base", "nginx", "/etc/nginx/nginx.conf"} <= names
    assert {made.name for made in provenance.run_details.byproducts} >= {"inventory", "sbom-cyclonedx", "scan"}


def test_the_published_schema_accepts_the_shipped_recipes() -> None:
    schema = json.loads((ROOT / "docs/recipe.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in (ROOT / "recipes").glob("*.yaml"):
        validator.validate(yaml.safe_load(path.read_text()))


def _statement(text: str) -> dict[str, Any] | None:
    for line in text.splitlines():
        if line.startswith("{") and "payload" in line:
            found: dict[str, Any] = json.loads(base64.b64decode(json.loads(line)["payload"]))
            return found
    return None


def test_the_bundle_in_the_registry_is_the_one_the_api_serves(
    goldsmith: Goldsmith, web: Released, bundle: bytes
) -> None:
    repository = goldsmith.repository(web)
    served = [one for one in goldsmith.referrers(web) if one.artifact_type == BUNDLE]
    contents = []
    for one in served:
        manifest = parse_manifest(goldsmith.registry.manifests.get(repository.at(one.digest)).data)
        contents.append(goldsmith.registry.blobs.fetch(repository, manifest.layers[0]))
    assert digest_of(bundle) in {digest_of(content) for content in contents}


def test_a_released_image_tells_its_verdict_and_is_scanned_again(goldsmith: Goldsmith, web: Released) -> None:
    verdict = goldsmith.api.get(f"/v1/builds/{web.build['id']}/verdict").raise_for_status().json()
    assert verdict["passed"] is True
    assert set(verdict["attestations"]) == {PREDICATE, *BESIDE}
    told = goldsmith.run("verify", web.reference).stdout
    assert "gate" in told
    assert "PASSED at" in told
    goldsmith.run("rescan")
    mark = goldsmith.api.get(f"/v1/images/{web.digest}").raise_for_status().json()["rescan"]
    assert mark["problem"] is None
    assert (mark["abovePolicy"], mark["newAbovePolicy"]) == (0, 0)
    listed = goldsmith.api.get("/v1/findings", params={"digest": web.digest, "limit": 500}).json()["findings"]
    assert len(listed) == sum(web.build["result"]["findings"].values())
    assert not any(one["sinceRelease"] for one in listed)


class TestArchive:
    """One file has all evidence, and what its README says is enough to verify it without us."""

    @pytest.fixture(scope="class")
    def unpacked(self, goldsmith: Goldsmith, web: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
        directory = tmp_path_factory.mktemp("archive")
        goldsmith.run("bundle", web.digest, "-o", str(directory / "evidence.tar"))
        assert run("tar", "-xf", directory / "evidence.tar", "-C", directory).returncode == 0
        return directory

    def test_it_is_whole_and_the_same_each_time(self, goldsmith: Goldsmith, web: Released, unpacked: Path) -> None:
        done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=unpacked, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout
        assert digest_of((unpacked / "manifest.json").read_bytes()) == web.digest
        again = goldsmith.api.get(f"/v1/images/{web.digest}/bundle").raise_for_status()
        assert again.content == (unpacked / "evidence.tar").read_bytes()
        assert again.headers["content-type"] == "application/x-tar"

    def test_stock_tools_verify_each_bundle_in_it(
        self, cosign: Path, goldsmith: Goldsmith, web: Released, unpacked: Path
    ) -> None:
        who = ["--cert-identity", goldsmith.client["identity"], "--cert-oidc-issuer", goldsmith.client["issuer"]]
        bundles = sorted((unpacked / "bundles").glob("*.json"))
        assert {one.stem for one in bundles} >= {"provenance", "signature", "tests", "verdict", "references"}
        for bundle in (one for one in bundles if not one.stem.startswith("reproduction")):
            done = run(
                Path(sys.executable).parent / "sigstore", "--trust-config", unpacked / "trust_config.json", "verify",
                "identity", "--offline", "--bundle", bundle, *who, web.digest,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        done = run(
            cosign, "verify-blob-attestation", "--new-bundle-format", "--bundle", unpacked / "bundles/provenance.json",
            "--type", "slsaprovenance1", "--trusted-root", unpacked / "trusted_root.json",
            "--certificate-identity", goldsmith.client["identity"],
            "--certificate-oidc-issuer", goldsmith.client["issuer"], unpacked / "manifest.json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def test_its_documents_are_those_that_were_signed(self, unpacked: Path) -> None:
        payload = json.loads((unpacked / "bundles/references.json").read_bytes())["dsseEnvelope"]["payload"]
        told = {
            one["name"]: one["digest"]["sha256"]
            for one in json.loads(base64.b64decode(payload))["predicate"]["references"]
        }
        for name, file in (
            ("inventory", "inventory.jsonl.zst"),
            ("sbom-cyclonedx", "sbom.cdx.json"),
            ("scan", "scan.json"),
        ):
            assert digest_of((unpacked / file).read_bytes()) == f"sha256:{told[name]}"

    def test_the_ledgers_key_opens_the_proof_of_its_record(self, goldsmith: Goldsmith, unpacked: Path) -> None:
        entry = (unpacked / "ledger/entry.json").read_bytes()
        assert json.loads(entry)["recordDigest"] == digest_of((unpacked / "record.json").read_bytes())
        proof = parse_proof((unpacked / "ledger/proof.tlog-proof").read_bytes())
        keys = [parse_key(goldsmith.client["ledgerKey"])]
        assert proof.verify(entry, keys).checkpoint.size > proof.index
        with pytest.raises(ProofInvalid):
            proof.verify(entry + b" ", keys)

    def test_goldsmith_verifies_it_and_asks_nobody(self, goldsmith: Goldsmith, unpacked: Path) -> None:
        policy = unpacked / "policy.yaml"
        policy.write_text(json.dumps(self.policy(goldsmith, trustedRoot="trusted_root.json")))
        nobody = unpacked / "nobody.json"
        nobody.write_text('{"url": "http://127.0.0.1:9"}')
        nobody.chmod(0o600)
        verify = ["verify", str(unpacked / "evidence.tar"), "--offline", "--config", str(nobody)]
        done = goldsmith.run(*verify, "--policy", str(policy), "--json")
        told = json.loads(done.stdout)
        assert told["verified"]
        names = {one["name"] for one in told["checks"]}
        assert names >= {
            "manifest digest",
            "documents",
            "ledger inclusion",
            "expected recipe",
            "hermetic",
            "age",
            "sbom",
        }
        policy.write_text(json.dumps(self.policy(goldsmith, trustedRoot="trusted_root.json", recipes=["other"])))
        done = goldsmith.run(*verify, "--policy", str(policy), check=False)
        assert done.returncode == 2
        assert "expected is other" in done.stdout

    def test_the_service_answers_the_same(self, goldsmith: Goldsmith, web: Released) -> None:
        asked = {"digest": web.digest, "policy": self.policy(goldsmith)}
        told = goldsmith.api.post("/v1/verifications", json=asked).raise_for_status().json()
        assert told["verified"], told["checks"]
        assert {one["name"] for one in told["checks"]} >= {"documents", "ledger inclusion", "expected recipe", "gate"}
        plain = goldsmith.api.post("/v1/verifications", json={"digest": web.digest}).raise_for_status().json()
        assert plain["verified"]
        asked["policy"]["spec"]["allowSandbox"] = False
        told = goldsmith.api.post("/v1/verifications", json=asked).raise_for_status().json()
        assert [one["name"] for one in told["checks"] if not one["passed"]] == ["real signature"]

    @staticmethod
    def policy(goldsmith: Goldsmith, **changed: object) -> dict[str, Any]:
        who = {"identity": goldsmith.client["identity"], "issuer": goldsmith.client["issuer"]}
        spec = {
            "signers": [who], "ledgerKeys": [goldsmith.client["ledgerKey"]], "require": ["all"], "recipes": ["web"],
            "maxAgeDays": 30, "hermetic": True, "allowSandbox": True, **changed,
        }  # fmt: skip
        return {"apiVersion": "goldsmith/v1", "kind": "VerificationPolicy", "metadata": {"name": "t"}, "spec": spec}

    def test_a_file_that_is_there_is_not_written_over(
        self, goldsmith: Goldsmith, web: Released, unpacked: Path
    ) -> None:
        done = goldsmith.run("bundle", web.digest, "-o", str(unpacked / "evidence.tar"), check=False)
        assert done.returncode == 1
        assert "File exists" in done.stderr
