"""Trivy's report: what is understood, what is taken out, and that nothing odd passes for an image without findings."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.scanning.errors import ScanReportInvalid
from builder.scanning.findings import Severity
from builder.scanning.report import read_report

DIGEST = "sha256:" + "a" * 64
REFERENCE = f"127.0.0.1:5000/staging/app@{DIGEST}"
LAYER = {"DiffID": "sha256:" + "b" * 64, "CreatedBy": "ENV PASSWORD=open-sesame"}

REPORT: dict[str, Any] = {
    "SchemaVersion": 2,
    "ArtifactName": REFERENCE,
    "Metadata": {
        "OS": {"Family": "debian", "Name": "12.1"},
        "RepoDigests": [REFERENCE],
        "ImageConfig": {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "author": "open-sesame",
            "history": [{"created_by": "ENV PASSWORD=open-sesame"}],
            "container_config": {"Env": ["PASSWORD=open-sesame"]},
            "config": {
                "Env": ["PASSWORD=open-sesame"],
                "Cmd": ["run", "--password=open-sesame"],
                "OnBuild": ["ENV PASSWORD=open-sesame"],
                "User": "65532",
                "Labels": {"org.opencontainers.image.title": "app"},
            },
        },
    },
    "Results": [
        {
            "Target": "app (debian 12.1)",
            "Class": "os-pkgs",
            "Packages": [
                {"Name": "openssl", "Identifier": {"PURL": "pkg:deb/debian/openssl@3.0.9-1"}, "Layer": LAYER},
                {"Name": "odd"},
            ],
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2023-5363",
                    "PkgName": "openssl",
                    "PkgIdentifier": {"PURL": "pkg:deb/debian/openssl@3.0.9-1"},
                    "InstalledVersion": "3.0.9-1",
                    "FixedVersion": "3.0.11-1~deb12u2",
                    "Status": "fixed",
                    "Severity": "HIGH",
                    "SeveritySource": "nvd",
                    "Title": "Wrong order",
                    "DataSource": {"ID": "debian", "Name": "Debian Security Tracker"},
                },
                {"VulnerabilityID": "CVE-2005-2541", "PkgName": "tar", "Status": "affected", "Severity": "UNKNOWN"},
            ],
        },
        {
            "Target": "/opt/key.pem",
            "Class": "secret",
            "Secrets": [
                {
                    "RuleID": "private-key",
                    "Severity": "HIGH",
                    "Title": "Private key",
                    "StartLine": 2,
                    "Match": "open-sesame",
                    "Code": {"Lines": [{"Content": "open-sesame", "Highlighted": "open-sesame"}]},
                    "Layer": LAYER,
                }
            ],
        },
        {
            "Target": "app",
            "Class": "config",
            "Misconfigurations": [
                {
                    "ID": "DS-0031",
                    "Title": "Secrets",
                    "Message": 'secret env "PASSWORD" in ENV',
                    "Severity": "CRITICAL",
                    "Status": "FAIL",
                    "CauseMetadata": {"Code": {"Lines": [{"Content": 'ENV PASSWORD="open-sesame"'}]}},
                },
                {"ID": "DS-0001", "Title": "Fine", "Severity": "LOW", "Status": "PASS"},
            ],
        },
    ],
}


def encoded(**changes: Any) -> bytes:
    return json.dumps({**REPORT, **changes}).encode()


def test_findings_come_out_typed() -> None:
    report = read_report(encoded(), REFERENCE)
    fixed, unfixed = report.findings.vulnerabilities
    assert (fixed.id, fixed.package, fixed.installed, fixed.fixed) == (
        "CVE-2023-5363",
        "openssl",
        "3.0.9-1",
        "3.0.11-1~deb12u2",
    )
    assert (fixed.severity, fixed.severity_source, fixed.data_source) == (
        Severity.HIGH,
        "nvd",
        "Debian Security Tracker",
    )
    assert (unfixed.fixed, unfixed.severity, unfixed.status) == (None, Severity.UNKNOWN, "affected")
    (secret,) = report.findings.secrets
    assert (secret.rule, secret.target, secret.line) == ("private-key", "/opt/key.pem", 2)
    assert [check.id for check in report.findings.misconfigurations] == ["DS-0031"]
    assert len(report.packages) == 2
    assert report.purls == {"pkg:deb/debian/openssl@3.0.9-1"}
    assert report.findings.vulnerabilities_by_severity()[Severity.HIGH] == 1


def test_no_environment_value_build_command_or_excerpt_is_left() -> None:
    report = read_report(encoded(), REFERENCE)
    for stored in (report.document, report.inventory, repr(report.findings).encode()):
        assert b"open-sesame" not in stored
    kept = json.loads(report.document)["Metadata"]["ImageConfig"]
    assert kept["architecture"] == "amd64"
    assert kept["config"] == {"User": "65532", "Labels": {"org.opencontainers.image.title": "app"}}


def test_the_inventory_has_the_packages_and_no_findings() -> None:
    results = json.loads(read_report(encoded(), REFERENCE).inventory)["Results"]
    assert [sorted(result) for result in results] == [["Class", "Packages", "Target"]]


def test_an_image_without_results_is_an_image_without_packages() -> None:
    bare = {key: value for key, value in REPORT.items() if key != "Results"}
    assert read_report(json.dumps(bare).encode(), REFERENCE).packages == ()


@pytest.mark.parametrize("version", [None, 1, 3, "2", True, [2]])
def test_another_schema_version_is_refused(version: object) -> None:
    with pytest.raises(ScanReportInvalid, match="SchemaVersion"):
        read_report(encoded(SchemaVersion=version), REFERENCE)


def test_a_report_on_another_image_is_refused() -> None:
    other = REFERENCE.replace("a" * 64, "c" * 64)
    with pytest.raises(ScanReportInvalid, match="not on"):
        read_report(encoded(), other)


def test_every_cut_of_a_report_is_refused() -> None:
    whole = encoded()
    for end in range(0, len(whole), 7):
        with pytest.raises(ScanReportInvalid):
            read_report(whole[:end], REFERENCE)


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"\xff\xfe", b"{" * 200_000, b'{"SchemaVersion": NaN}', b"9" * 10_000]
)
def test_what_is_no_report_is_refused(raw: bytes) -> None:
    with pytest.raises(ScanReportInvalid):
        read_report(raw, REFERENCE)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("Results",), {}),
        (("Results", 0), "text"),
        (("Results", 0, "Vulnerabilities"), {"0": {}}),
        (("Results", 0, "Vulnerabilities", 0, "Severity"), "TERRIBLE"),
        (("Results", 0, "Vulnerabilities", 0, "Severity"), None),
        (("Results", 0, "Vulnerabilities", 0, "VulnerabilityID"), ""),
        (("Results", 0, "Vulnerabilities", 0, "FixedVersion"), 3),
        (("Results", 0, "Packages", 0, "Name"), None),
        (("Results", 1, "Secrets", 0, "StartLine"), "2"),
        (("Results", 1, "Secrets"), True),
        (("Metadata", "RepoDigests"), REFERENCE),
        (("Metadata",), None),
    ],
)
def test_a_field_of_another_type_is_refused(place: tuple[str | int, ...], value: object) -> None:
    document: Any = copy.deepcopy(REPORT)
    parent = document
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    with pytest.raises(ScanReportInvalid, match="known form"):
        read_report(json.dumps(document).encode(), REFERENCE)


def test_an_error_does_not_show_what_it_choked_on() -> None:
    document: Any = copy.deepcopy(REPORT)
    document["Results"][1]["Secrets"][0]["RuleID"] = ["open-sesame"]
    with pytest.raises(ScanReportInvalid) as caught:
        read_report(json.dumps(document).encode(), REFERENCE)
    assert "open-sesame" not in str(caught.value)


def test_escape_sequences_in_names_do_not_survive() -> None:
    document: Any = copy.deepcopy(REPORT)
    document["Results"][0]["Vulnerabilities"][0]["PkgName"] = "open\x1b[2Jssl\n\ud800"
    found = read_report(json.dumps(document).encode(), REFERENCE).findings.vulnerabilities[0]
    assert found.package.isprintable()
    assert found.package.startswith("open")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["Metadata", "Results", "ArtifactName"]), JSON)
def test_a_mangled_report_is_refused_or_has_no_excerpt(part: str, value: object) -> None:
    try:
        report = read_report(encoded(**{part: value}), REFERENCE)
    except ScanReportInvalid:
        return
    assert b"open-sesame" not in report.document
