"""Findings as SARIF: each is there once, at its place, and nothing in a name breaks the document."""

import json
from datetime import UTC, datetime
from typing import Any

from builder.scanning.findings import (
    Cvss,
    DatabaseIdentity,
    Findings,
    License,
    Misconfiguration,
    ScannerIdentity,
    Secret,
    Severity,
    Vulnerability,
)
from builder.scanning.sarif import sarif

MOMENT = datetime(2026, 11, 1, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
SCANNER = ScannerIdentity(name="trivy", version="0.76.0", sha256="b" * 64)
DATABASE = DatabaseIdentity(
    digest=DIGEST, updated_at=MOMENT, next_update=MOMENT, downloaded_at=MOMENT, source="oci:x/y", sample=False
)


def vulnerability(package: str, **more: Any) -> Vulnerability:
    given = {"id": "CVE-2026-1", "installed": "1", "severity": Severity.HIGH, "status": "affected", "target": "app"}
    return Vulnerability(package=package, **{**given, **more})


def run(*vulnerabilities: Vulnerability, **more: Any) -> dict[str, Any]:
    document = sarif(f"host/app@{DIGEST}", Findings(vulnerabilities=vulnerabilities, **more), SCANNER, DATABASE)
    parsed = json.loads(document)
    assert parsed["version"] == "2.1.0"
    return parsed["runs"][0]  # type: ignore[no-any-return]


def test_each_finding_is_a_result_and_each_identifier_a_rule() -> None:
    told = run(
        vulnerability("openssl", purl="pkg:deb/debian/openssl@1", fixed="2"),
        vulnerability("libssl3"),
        vulnerability("urllib3", id="CVE-2026-2", path="usr/lib/urllib3 2/METADATA", target_class="lang-pkgs"),
        secrets=(Secret(rule="private-key", severity=Severity.CRITICAL, target="/opt/a%zz key.pem", line=3),),
        misconfigurations=(Misconfiguration(id="DS-2", title="Root", severity=Severity.LOW, message="m", target="x"),),
    )
    rules = [rule["id"] for rule in told["tool"]["driver"]["rules"]]
    assert rules == ["CVE-2026-1", "CVE-2026-2", "private-key", "DS-2"]
    assert [result["ruleId"] for result in told["results"]] == ["CVE-2026-1", *rules]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in told["results"])
    assert [result["level"] for result in told["results"]] == ["error", "error", "error", "error", "note"]
    places = [result["locations"][0] for result in told["results"]]
    assert places[0] == {"logicalLocations": [{"fullyQualifiedName": "pkg:deb/debian/openssl@1"}]}
    assert places[2]["physicalLocation"]["artifactLocation"]["uri"] == "usr/lib/urllib3%202/METADATA"
    assert places[3]["physicalLocation"]["artifactLocation"]["uri"] == "opt/a%25zz%20key.pem"
    assert places[3]["physicalLocation"]["region"] == {"startLine": 3}
    assert len({result["partialFingerprints"]["goldsmithScan/v1"] for result in told["results"]}) == 5


def test_a_score_of_its_own_counts_before_the_word() -> None:
    rated = vulnerability("a", cvss=(Cvss(source="nvd", version="3.1", score=9.8), Cvss(source="x", version="2.0")))
    rules = run(rated, vulnerability("b", id="CVE-2026-2"))["tool"]["driver"]["rules"]
    assert [rule["properties"]["security-severity"] for rule in rules] == ["9.8", "8.0"]


def test_only_a_plain_link_is_passed_on() -> None:
    links = ("javascript:alert(1)", "http://a.example/", 'https://a.example/"><b>', "https://b.example/x")
    assert run(vulnerability("a", references=links))["tool"]["driver"]["rules"][0]["helpUri"] == "https://b.example/x"


def test_a_licence_is_no_finding_for_code_scanning() -> None:
    licence = License(name="MIT", severity=Severity.LOW, category="notice", confidence=1.0, target="OS Packages")
    assert run(licenses=(licence,))["results"] == []


def test_a_lone_surrogate_in_a_name_is_no_obstacle() -> None:
    assert run(vulnerability("odd", path="opt/\ud800"))["results"]
