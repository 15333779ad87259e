"""What is signed of scan and gate: in the form of the specifications, complete, and no more than is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.predicates.vsa.v1 import vsa_pb2
from in_toto_attestation.v1 import resource_descriptor, statement_pb2
from in_toto_attestation.v1.statement import Statement as OfficialStatement
from packageurl import PackageURL
from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue

from builder.pipeline import attestations
from builder.pipeline.attestations import (
    bill_of_materials,
    recipe_tests,
    references,
    verification_summary,
    vulnerability_scan,
)
from builder.pipeline.evidence import ScanEvidence, kept
from builder.policy.verdict import PolicyIdentity
from builder.registry.reference import Repository
from builder.scanning.findings import Cvss, Findings, Severity, Vulnerability
from builder.signing.statement import Statement, Subject
from builder.store.attachments import Kind
from builder.store.schema import Build, Step
from tests.unit.evidence import DAY, build_evidence, digest, scan_evidence

VERIFIER = "https://goldsmith.example/builder/1"
IMAGE = Repository("registry.example:5000", "golden/web").at(digest("a"))
STEPS = [
    Step(name="scan", started_at=100.0, finished_at=130.0),
    Step(name="gate", started_at=130.0, finished_at=131.0),
    Step(name="scan", started_at=200.0, finished_at=230.0),
    Step(name="gate", started_at=230.0, finished_at=231.0),
]
FOUND = Vulnerability(
    id="CVE-2023-4911", package="libc6", installed="2.36-9", fixed="2.36-9+deb12u3", severity=Severity.HIGH,
    severity_source="debian", status="fixed", purl="pkg:deb/debian/libc6@2.36-9?arch=amd64", target="debian",
    cvss=(Cvss(source="nvd", version="3.1", score=7.8, vector="CVSS:3.1/AV:L"),),
)  # fmt: skip
UNRATED = Vulnerability(
    id="CVE-2026-1", package="zlib1g", installed="1:1.3", severity=Severity.UNKNOWN, status="affected", target="debian"
)

BESIDE = {
    Kind.INVENTORY: ("application/x-inventory", digest("5")),
    Kind.SPDX: ("application/spdx+json", digest("c")),
}


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VulnsModel(Model):
    """spec/predicates/vulns.md, v0.1: for this one in-toto-attestation has no model."""

    class Scanner(Model):
        class Db(Model):
            uri: str = ""
            version: str = ""
            lastUpdate: AwareDatetime  # noqa: N815

        class Result(Model):
            class Severity(Model):
                method: str
                score: str

            id: str
            severity: list[Severity]
            annotations: list[dict[str, JsonValue]] = []

        uri: str
        version: str = ""
        db: Db
        result: list[Result]

    class Metadata(Model):
        scanStartedOn: AwareDatetime  # noqa: N815
        scanFinishedOn: AwareDatetime  # noqa: N815

    scanner: Scanner
    metadata: Metadata


def build(scanned: ScanEvidence | None = None, **changes: Any) -> Build:
    scanned = scanned or scan_evidence()
    return Build(
        id="0" * 26,
        recipe_digest=digest("1"),
        evidence={"build": kept(build_evidence()), "scan": kept(scanned.model_copy(update=changes))},
    )


def officially(statement: Statement) -> statement_pb2.Statement:
    official = OfficialStatement.copy_from_pb(json_format.Parse(statement.canonical(), statement_pb2.Statement()))
    official.validate()
    return official.pb


class TestScan:
    def test_every_finding_is_told_with_what_rates_it_and_what_it_is_of(self) -> None:
        told = vulnerability_scan(build(findings=Findings(vulnerabilities=(FOUND, UNRATED))), STEPS).predicate()
        read = VulnsModel.model_validate_json(json.dumps(told))
        assert [(one.id, [(s.method, s.score) for s in one.severity]) for one in read.scanner.result] == [
            ("CVE-2023-4911", [("debian", "HIGH"), ("cvss-3.1/nvd", "7.8")]),
            ("CVE-2026-1", [("trivy", "UNKNOWN")]),
        ]
        assert read.scanner.result[0].annotations == [
            {"package": "libc6", "installed": "2.36-9", "fixed": "2.36-9+deb12u3", "status": "fixed",
             "purl": "pkg:deb/debian/libc6@2.36-9?arch=amd64"}
        ]  # fmt: skip

    def test_nothing_found_is_an_empty_list_and_not_a_missing_one(self) -> None:
        assert vulnerability_scan(build(), STEPS).predicate()["scanner"]["result"] == []  # type: ignore[index,call-overload]

    def test_scanner_and_database_are_named_by_version_and_digest(self) -> None:
        read = VulnsModel.model_validate_json(json.dumps(vulnerability_scan(build(), STEPS).predicate()))
        scanner = PackageURL.from_string(read.scanner.uri)
        assert (scanner.namespace, scanner.name, scanner.version) == ("aquasecurity", "trivy", "v0.76.0")
        assert scanner.qualifiers == {"checksum": "sha256:" + "7" * 64}
        assert (read.scanner.db.version, read.scanner.db.lastUpdate) == (digest("8"), DAY)

    def test_its_times_are_the_scanners_own(self) -> None:
        told = vulnerability_scan(build(started_at=DAY, seconds=2.0), STEPS).metadata
        assert (told.scan_finished_on - told.scan_started_on).total_seconds() == 2

    def test_of_an_older_scan_they_are_those_of_the_last_step(self) -> None:
        told = vulnerability_scan(build(), STEPS).metadata
        assert (told.scan_started_on.timestamp(), told.scan_finished_on.timestamp()) == (200, 230)

    def test_the_statement_is_one_for_the_official_model(self) -> None:
        statement = vulnerability_scan(build(), STEPS).statement(Subject.of("web", digest("a")))
        read = officially(statement)
        assert read.predicate_type == "https://in-toto.io/attestation/vulns/v0.1"
        assert read.subject[0].digest["sha256"] == "a" * 64


class TestGate:
    def test_the_official_model_reads_it(self) -> None:
        policy = PolicyIdentity(name="house", version="7", digest=digest("e"))
        scanned = scan_evidence()
        passed = scanned.verdict.model_copy(update={"policy": policy})
        summary = verification_summary(build(scanned, verdict=passed), STEPS, VERIFIER, IMAGE)
        read = officially(summary.statement(Subject.of("web", digest("a"))))
        assert read.predicate_type == "https://slsa.dev/verification_summary/v1"
        told = summary.predicate()
        # The specification has a list of levels; this version of the model knows one.
        levels = told.pop("verifiedLevels")
        assert levels == ["SLSA_BUILD_LEVEL_UNEVALUATED"]
        official = json_format.ParseDict(told, vsa_pb2.VerificationSummary())
        assert official.verifier.id == VERIFIER
        assert official.time_verified.ToDatetime(UTC) == datetime.fromtimestamp(231, UTC)
        assert official.verification_result == "PASSED"
        assert official.policy.uri == "urn:goldsmith:policy:house"
        assert dict(official.policy.digest) == {"sha256": "e" * 64}
        resource = PackageURL.from_string(official.resource_uri)
        assert (resource.type, resource.name, resource.version) == ("oci", "web", digest("a"))
        assert resource.qualifiers == {"repository_url": "registry.example:5000/golden/web"}

    def test_no_build_level_is_claimed_that_nobody_verified(self) -> None:
        assert verification_summary(build(), STEPS, VERIFIER, IMAGE).verified_levels == (
            "SLSA_BUILD_LEVEL_UNEVALUATED",
        )

    def test_there_is_none_of_what_did_not_pass(self) -> None:
        scanned = scan_evidence()
        failed = scanned.verdict.model_copy(update={"passed": False})
        with pytest.raises(AssertionError, match="did not pass"):
            verification_summary(build(scanned, verdict=failed), STEPS, VERIFIER, IMAGE)

    def test_a_policy_that_named_itself_is_a_whole_resource(self) -> None:
        told = verification_summary(build(), STEPS, VERIFIER, IMAGE).policy
        official = resource_descriptor.ResourceDescriptor(uri=told.uri or "", digest=told.digest or {})
        official.validate()
        assert told.digest == {"sha256": "1" * 64}


class TestTests:
    def test_the_official_model_reads_which_tests_passed_by_which_recipe(self) -> None:
        statement = recipe_tests(build()).statement(Subject.of("web", digest("a")))
        assert officially(statement).predicate_type == "https://in-toto.io/attestation/test-result/v0.1"
        official = json_format.ParseDict(dict(statement.predicate), test_result_pb2.TestResult())
        assert (official.result, list(official.passed_tests)) == ("PASSED", ["command true"])
        assert dict(official.configuration[0].digest) == {"sha256": "1" * 64}

    def test_there_is_none_of_tests_that_failed(self) -> None:
        one = build()
        failed = build_evidence().model_dump(mode="json")
        failed["tests"][0]["passed"] = False
        one.evidence = {**one.evidence, "build": failed}
        with pytest.raises(AssertionError, match="tests failed"):
            recipe_tests(one)


class TestBillOfMaterials:
    def test_it_is_signed_in_whole(self) -> None:
        statement = bill_of_materials(b'{"bomFormat":"CycloneDX"}', Subject.of("web", digest("a")))
        assert statement is not None
        assert officially(statement).predicate_type == "https://cyclonedx.org/bom"
        assert statement.predicate == {"bomFormat": "CycloneDX"}

    def test_a_large_one_is_left_to_its_digest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attestations, "MAX_SIGNED_BOM", 10)
        assert bill_of_materials(b'{"bomFormat":"CycloneDX"}', Subject.of("web", digest("a"))) is None


class TestReferences:
    def told(self) -> dict[str, Any]:
        made = references(build(), BESIDE, VERIFIER, "https://registry.example/v2/golden/web")
        statement = made.statement(Subject.of("web", digest("a")))
        assert officially(statement).predicate_type == "https://in-toto.io/attestation/reference/v0.1"
        return dict(statement.predicate)

    def test_each_document_is_a_whole_resource_with_media_type_and_place(self) -> None:
        told = self.told()
        assert told["attester"] == {"id": VERIFIER}
        for one in told["references"]:
            resource_descriptor.ResourceDescriptor(
                name=one["name"], digest=one["digest"], download_location=one["downloadLocation"],
                media_type=one["mediaType"],
            ).validate()  # fmt: skip
        assert [(one["name"], one["downloadLocation"].rpartition("/v2/")[2]) for one in told["references"]] == [
            ("inventory", f"golden/web/blobs/{digest('5')}"),
            ("sbom-spdx", f"golden/web/blobs/{digest('c')}"),
            ("materials", f"golden/web/manifests/{digest('7')}"),
        ]

    def test_the_inventory_has_the_root_of_its_tree(self) -> None:
        assert self.told()["references"][0]["annotations"] == {"merkleRoot": "6" * 64, "paths": 7}
