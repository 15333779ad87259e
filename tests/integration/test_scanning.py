"""Scanning with the real Trivy, on images in a real registry."""

import base64
import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder.policy.effective import effective
from builder.policy.gate import evaluate
from builder.policy.organisation import DEFAULT
from builder.policy.policy import Policy
from builder.policy.verdict import Verdict
from builder.scanning.binary import Trivy
from builder.scanning.findings import ScanResult, Severity
from builder.scanning.sbom import cyclonedx_purls, spdx_purls
from tests.integration.scanning_server import (
    BOOKWORM,
    CLEAN,
    SECRET_VALUES,
    TRIVY,
    Image,
    Registry,
    install,
    registry,
    scanner,
)
from tests.unit.judged import facts


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trivy") / "cache"
    install(directory)
    return directory


@pytest.fixture(scope="module")
def bookworm(staging: Registry, cache: Path) -> ScanResult:
    return scanner(cache).scan(staging.push("staging/bookworm", BOOKWORM))


def found(result: ScanResult) -> set[tuple[str, str]]:
    return {(v.id, v.package) for v in result.findings.vulnerabilities}


def judged(policy: Policy, result: ScanResult) -> Verdict:
    """By the scan alone: all else is well."""
    return evaluate(
        effective(DEFAULT, "app", policy),
        facts(
            gathered_at=result.started_at, reference=result.reference, database=result.database,
            operating_system=result.operating_system,
            covered=result.covered, findings=result.findings, packages=result.packages,
            packages_seen=result.package_count, packages_expected=1,
        ),
    )  # fmt: skip


class TestFindings:
    def test_planted_advisories_are_found_in_each_binary_package(self, bookworm: ScanResult) -> None:
        assert {("CVE-2023-5363", "openssl"), ("CVE-2023-5363", "libssl3")} <= found(bookworm)
        assert ("CVE-2024-2961", "libc6") in found(bookworm)

    def test_fixed_ones_are_not(self, bookworm: ScanResult) -> None:
        assert ("CVE-2023-4911", "libc6") not in found(bookworm)
        assert ("CVE-2023-0286", "openssl") not in found(bookworm)
        assert ("CVE-2022-48303", "tar") not in found(bookworm)

    def test_an_unfixed_one_has_no_fixed_version(self, bookworm: ScanResult) -> None:
        (unfixed,) = [v for v in bookworm.findings.vulnerabilities if v.id == "CVE-2005-2541"]
        assert (unfixed.fixed, unfixed.status, unfixed.severity) == (None, "affected", Severity.LOW)

    def test_a_finding_says_who_says_so(self, bookworm: ScanResult) -> None:
        (found_one,) = [
            v for v in bookworm.findings.vulnerabilities if (v.id, v.package) == ("CVE-2023-5363", "openssl")
        ]
        assert found_one.severity is Severity.HIGH
        assert found_one.severity_source == "nvd"
        assert found_one.data_source == "Goldsmith sample (not complete)"
        assert found_one.purl == "pkg:deb/debian/openssl@3.0.11-1~deb12u1?arch=amd64&distro=debian-12.1"

    def test_python_packages_are_looked_up_too(self, bookworm: ScanResult) -> None:
        assert ("CVE-2023-45803", "urllib3") in found(bookworm)
        assert ("CVE-2023-43804", "urllib3") not in found(bookworm)

    def test_debian_13_has_its_own_advisories(self, staging: Registry, cache: Path) -> None:
        old = Image(release="13", packages=(("openssl", "openssl", "3.5.1-1"), ("libc6", "glibc", "2.41-12")))
        result = scanner(cache).scan(staging.push("staging/trixie", old))
        assert ("CVE-2025-15467", "openssl") in found(result)
        assert {v.id for v in result.findings.vulnerabilities if v.package == "libc6"} == {"CVE-2010-4756"}

    def test_secrets_are_found_in_files_and_in_the_environment(self, bookworm: ScanResult) -> None:
        places = {(s.rule, s.target.rpartition("@")[0] or s.target) for s in bookworm.findings.secrets}
        host = bookworm.reference.rpartition("@")[0]
        assert places == {("private-key", "/opt/key.pem"), ("github-pat", "/opt/settings"), ("github-pat", host)}

    def test_the_configuration_is_checked(self, staging: Registry, cache: Path, bookworm: ScanResult) -> None:
        assert "DS-0031" in {check.id for check in bookworm.findings.misconfigurations}
        as_root = dataclasses.replace(CLEAN, user="", history=("COPY rootfs / # buildkit",))
        result = scanner(cache).scan(staging.push("staging/root", as_root))
        assert "DS-0002" in {check.id for check in result.findings.misconfigurations}

    def test_the_gate_judges_what_was_found(self, staging: Registry, cache: Path, bookworm: ScanResult) -> None:
        verdict = judged(Policy(), bookworm)
        assert not verdict.passed
        assert verdict.sample_database
        remedies = {o.remedy for rule in verdict.rules if not rule.passed for o in rule.offenders}
        assert "upgrade libssl3 3.0.11-1~deb12u1 to 3.0.11-1~deb12u2" in remedies
        assert judged(Policy(maximum_severity="none"), scanner(cache).scan(staging.push("a/b", CLEAN))).passed


class TestWhatIsKept:
    def test_no_secret_value_is_anywhere_in_the_result(self, bookworm: ScanResult) -> None:
        everything = b"\n".join([bookworm.report, bookworm.cyclonedx, bookworm.spdx, repr(bookworm.findings).encode()])
        for value in SECRET_VALUES:
            assert value.encode() not in everything
            assert base64.b64encode(value.encode())[:-4] not in everything

    def test_a_secret_is_in_the_image_itself(self) -> None:
        layer = BOOKWORM.layer()
        text = layer + BOOKWORM.configuration(layer)
        assert all(value.encode() in text for value in SECRET_VALUES), "else the test above proves nothing"

    def test_the_report_stays_a_report_of_trivy(self, bookworm: ScanResult, tmp_path: Path) -> None:
        (tmp_path / "report.json").write_bytes(bookworm.report)
        table = Trivy(TRIVY).run(
            ["convert", "--format", "table", str(tmp_path / "report.json")], cwd=tmp_path, timeout=30
        )
        assert b"CVE-2023-5363" in table.stdout

    def test_the_scanner_is_named_by_the_digest_of_its_binary(self, bookworm: ScanResult) -> None:
        assert bookworm.scanner.sha256 == hashlib.sha256(TRIVY.read_bytes()).hexdigest()
        assert bookworm.scanner.version.count(".") == 2
        with TRIVY.open("rb") as file:
            assert file.read(4) == b"\x7fELF"

    def test_the_database_is_named_and_marked_as_the_sample(self, bookworm: ScanResult) -> None:
        assert bookworm.database.sample
        assert bookworm.database.digest.startswith("sha256:")
        assert bookworm.database.source.startswith("directory:")


class TestBillsOfMaterials:
    def test_the_cyclonedx_document_is_valid(self, bookworm: ScanResult) -> None:
        assert json.loads(bookworm.cyclonedx)["specVersion"] == "1.7"
        assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(bookworm.cyclonedx.decode()) is None

    def test_the_spdx_document_is_valid(self, bookworm: ScanResult) -> None:
        document = JsonLikeDictParser().parse(json.loads(bookworm.spdx))
        assert validate_full_spdx_document(document) == []

    def test_both_name_every_package_that_a_run_of_its_own_names(
        self, bookworm: ScanResult, cache: Path, tmp_path: Path
    ) -> None:
        """The documents are converted from the scan's report; a plain SBOM run of Trivy is the measure."""
        output = tmp_path / "direct.json"
        arguments = ["--image-src", "remote", "--format", "cyclonedx", "--output", str(output), bookworm.reference]
        Trivy(TRIVY).run_on_registry(arguments, cwd=tmp_path, timeout=60, insecure=False, credentials=None)
        direct = cyclonedx_purls(output.read_bytes())
        assert cyclonedx_purls(bookworm.cyclonedx) == direct
        own = {purl for purl in spdx_purls(bookworm.spdx) if not purl.startswith("pkg:oci/")}
        assert own == direct
        assert len(direct) == bookworm.package_count == 6

    def test_they_name_no_vulnerability(self, bookworm: ScanResult) -> None:
        assert b"CVE-" not in bookworm.cyclonedx + bookworm.spdx


class TestOddImages:
    def test_a_jar_does_not_end_the_scan_and_is_named_by_what_it_says(self, staging: Registry, cache: Path) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
            jar.writestr(
                "META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties",
                "groupId=org.apache.logging.log4j\nartifactId=log4j-core\nversion=2.14.1\n",
            )
        image = dataclasses.replace(CLEAN, files={"opt/app.jar": buffer.getvalue()})
        result = scanner(cache).scan(staging.push("staging/jar", image))
        assert "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1" in cyclonedx_purls(result.cyclonedx)

    def test_an_image_with_nothing_known_inside_has_no_packages(self, staging: Registry, cache: Path) -> None:
        bare = Image(files={"etc/os-release": b"", "etc/debian_version": b"", "var/lib/dpkg/status": b"", "a": b"a"})
        result = scanner(cache).scan(staging.push("staging/bare", bare))
        assert result.package_count == 0
        assert not judged(Policy(), result).passed

    def test_an_image_cannot_configure_its_own_scan(self, staging: Registry, cache: Path) -> None:
        files = {
            **BOOKWORM.files,
            ".trivyignore": b"CVE-2023-5363\n",
            "trivy.yaml": b"severity: [LOW]\n",
            "trivy-secret.yaml": b"disable-rules: [private-key]\n",
        }
        result = scanner(cache).scan(staging.push("staging/sly", dataclasses.replace(BOOKWORM, files=files)))
        assert ("CVE-2023-5363", "openssl") in found(result)
        assert "private-key" in {secret.rule for secret in result.findings.secrets}

    def test_the_directory_a_worker_runs_in_cannot_hide_findings(
        self, staging: Registry, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".trivyignore").write_text("CVE-2023-5363\n")
        (tmp_path / "trivy.yaml").write_text("ignore-unfixed: true\nseverity: [LOW]\n")
        (tmp_path / "trivy-secret.yaml").write_text("disable-rules: [private-key]\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TRIVY_SEVERITY", "LOW")
        result = scanner(cache).scan(staging.push("staging/bookworm", BOOKWORM))
        assert ("CVE-2023-5363", "openssl") in found(result)
        assert "private-key" in {secret.rule for secret in result.findings.secrets}


class TestSideBySide:
    def test_scans_at_once_do_not_wait_for_each_other_or_mix(self, staging: Registry, cache: Path) -> None:
        references = [staging.push("staging/bookworm", BOOKWORM), staging.push("staging/clean", CLEAN)] * 2
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(scanner(cache).scan, references))
        assert [result.reference for result in results] == references
        assert [bool(result.findings.vulnerabilities) for result in results] == [True, False, True, False]
