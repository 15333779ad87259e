"""What is planted is found, by the real Trivy: of every kind of advisory, in an image and again in its SBOM."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder.scanning.binary import Trivy
from builder.scanning.database import ensure
from builder.scanning.errors import ScanIncomplete, ScanReportInvalid
from builder.scanning.findings import ScanResult, Severity, Vulnerability
from builder.scanning.sbom import cyclonedx_purls, spdx_purls
from builder.scanning.sources import DirectorySource
from tests.integration.planted_database import offer, planted
from tests.integration.scanning_server import DAY, TRIVY, Image, Registry, registry, scanner

# binary, version, architecture, source (with its version where it is another)
INSTALLED = (
    ("libc6", "2.36-9+deb12u1", "amd64", "glibc"),
    ("libc-bin", "2.36-9+deb12u1", "amd64", "glibc"),
    ("libgnutls30", "3.7.9-2+deb12u2", "amd64", "gnutls28"),
    ("zlib1g", "1:1.2.13.dfsg-1", "i386", "zlib"),
    ("tar", "1.34+dfsg-1.2+deb12u1", "amd64", "tar"),
    ("perl-base", "5.36.0-7", "arm64", "perl"),
    ("libcurl4", "7.88.1-10+deb12u3+b1", "amd64", "curl (7.88.1-10+deb12u3)"),
    ("curl", "7.88.1-10+deb12u4", "amd64", "curl"),
    ("libstdc++6", "12.2.0-14", "amd64", "gcc-12"),
)
COPYRIGHT = b"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: nobody
License: GPL-3
"""


def stanza(binary: str, version: str, architecture: str, source: str) -> str:
    return (
        f"Package: {binary}\nStatus: install ok installed\nMaintainer: Nobody <nobody@example.org>\n"
        f"Architecture: {architecture}\nSource: {source}\nVersion: {version}\nDescription: {binary}\n\n"
    )


def dist_info(name: str, version: str, license_: str) -> dict[str, bytes]:
    place = f"usr/lib/python3/dist-packages/{name}-{version}.dist-info/METADATA"
    return {place: f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: {license_}\n".encode()}


def node_module(name: str, version: str) -> dict[str, bytes]:
    text = json.dumps({"name": name, "version": version, "license": "MIT"})
    return {f"usr/lib/node_modules/{name}/package.json": text.encode()}


IMAGE = Image(
    files={
        "var/lib/dpkg/status": "".join(stanza(*package) for package in INSTALLED).encode(),
        "usr/share/doc/tar/copyright": COPYRIGHT,
        **dist_info("Jinja2", "3.1.2", "BSD-3-Clause"),
        **dist_info("requests", "2.31.0", "Apache-2.0"),
        **node_module("lodash", "4.17.20"),
        **node_module("minimist", "1.2.8"),
    }
)


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trivy")
    offer(place / "offer", planted())
    ensure(Trivy(TRIVY), DirectorySource(place / "offer"), place / "cache", maximum_age=2 * DAY, timeout=30)
    return place / "cache"


@pytest.fixture(scope="module")
def scanned(staging: Registry, cache: Path) -> ScanResult:
    return scanner(cache).scan(staging.push("staging/planted", IMAGE))


def found(result: ScanResult, cve: str) -> dict[str, Vulnerability]:
    return {v.package: v for v in result.findings.vulnerabilities if v.id == cve}


class TestAdvisories:
    def test_a_fixed_one_is_found_in_each_binary_package_of_its_source(self, scanned: ScanResult) -> None:
        both = found(scanned, "CVE-2023-4911")
        assert set(both) == {"libc6", "libc-bin"}
        one = both["libc6"]
        assert (one.fixed, one.status, one.severity, one.source_package) == (
            "2.36-9+deb12u3", "fixed", Severity.CRITICAL, "glibc",
        )  # fmt: skip
        assert one.vendor_ids == ("DSA-5514-1",)

    def test_an_advisory_on_a_source_of_the_same_name_is_not_one_on_the_binary_package(
        self, scanned: ScanResult
    ) -> None:
        assert found(scanned, "CVE-2099-0001") == {}

    def test_one_that_is_fixed_already_is_not_found(self, scanned: ScanResult) -> None:
        assert found(scanned, "CVE-2024-0567") == {}
        assert found(scanned, "CVE-2023-32681") == {}
        assert found(scanned, "CVE-2021-44906") == {}

    def test_an_unfixed_a_deferred_and_one_that_will_not_be_fixed_keep_their_words(self, scanned: ScanResult) -> None:
        statuses = {
            cve: [(v.fixed, v.status) for v in found(scanned, cve).values()]
            for cve in ("CVE-2005-2541", "CVE-2011-4116", "CVE-2023-45853")
        }
        assert statuses == {
            "CVE-2005-2541": [(None, "affected")],
            "CVE-2011-4116": [(None, "fix_deferred")],
            "CVE-2023-45853": [(None, "will_not_fix")],
        }

    def test_packages_of_another_architecture_count(self, scanned: ScanResult) -> None:
        assert "arch=i386" in (found(scanned, "CVE-2023-45853")["zlib1g"].purl or "")
        assert "arch=arm64" in (found(scanned, "CVE-2011-4116")["perl-base"].purl or "")

    def test_the_version_of_the_source_decides_where_it_is_another(self, scanned: ScanResult) -> None:
        assert set(found(scanned, "CVE-2023-38545")) == {"libcurl4"}

    def test_a_python_and_a_node_package_are_found_where_they_lie(self, scanned: ScanResult) -> None:
        (python,) = found(scanned, "CVE-2024-22195").values()
        (node,) = found(scanned, "CVE-2021-23337").values()
        assert (python.target_class, node.target_class) == ("lang-pkgs", "lang-pkgs")
        assert (python.path, node.path) == (
            "usr/lib/python3/dist-packages/Jinja2-3.1.2.dist-info/METADATA", "usr/lib/node_modules/lodash/package.json",
        )  # fmt: skip
        assert (python.fixed, node.fixed) == ("3.1.3", "4.17.21")

    def test_scores_references_and_layer_come_with_it(self, scanned: ScanResult) -> None:
        one = found(scanned, "CVE-2023-4911")["libc6"]
        assert {(c.source, c.version, c.score) for c in one.cvss} == {
            ("nvd", "2.0", 7.5), ("nvd", "3.1", 9.8), ("ghsa", "4.0", 9.3),
        }  # fmt: skip
        assert {"https://example.org/advisory", "https://example.org/patch"} <= set(one.references)
        assert (one.layer or "").startswith("sha256:")
        assert one.target_class == "os-pkgs"

    def test_sarif_has_each_of_them(self, scanned: ScanResult) -> None:
        run = json.loads(scanned.sarif)["runs"][0]
        told = scanned.findings
        assert len(run["results"]) == len(told.vulnerabilities) + len(told.secrets) + len(told.misconfigurations)
        assert {v.id for v in told.vulnerabilities} <= {rule["id"] for rule in run["tool"]["driver"]["rules"]}


class TestLicences:
    def test_what_the_packages_say_is_told_with_a_category(self, scanned: ScanResult) -> None:
        told = {(one.package, one.name, one.category) for one in scanned.findings.licenses}
        assert ("tar", "GPL-3.0-only", "restricted") in told
        assert {("Jinja2", "BSD-3-Clause", "notice"), ("lodash", "MIT", "notice")} <= told
        packages = {one.name: one.licenses for one in scanned.packages}
        assert packages["requests"] == ("Apache-2.0",)
        assert packages["libc6"] == ()


class TestBillsOfMaterials:
    def test_they_pass_the_official_validators(self, scanned: ScanResult) -> None:
        assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(scanned.cyclonedx.decode()) is None
        assert validate_full_spdx_document(JsonLikeDictParser().parse(json.loads(scanned.spdx))) == []

    def test_they_name_every_installed_package_by_a_correct_purl(self, scanned: ScanResult) -> None:
        named = [PackageURL.from_string(purl) for purl in cyclonedx_purls(scanned.cyclonedx)]
        assert cyclonedx_purls(scanned.cyclonedx) == {p for p in spdx_purls(scanned.spdx) if ":oci/" not in p}
        debian = {(p.name, p.version, dict(p.qualifiers or {}).get("arch")) for p in named if p.type == "deb"}  # type: ignore[arg-type]
        assert debian == {(name, version.rpartition(":")[2], arch) for name, version, arch, _ in INSTALLED}
        assert {p.namespace for p in named if p.type == "deb"} == {"debian"}
        epochs = {p.name: dict(p.qualifiers or {}).get("epoch") for p in named if p.type == "deb"}  # type: ignore[arg-type]
        assert epochs["zlib1g"] == "1"
        others = {(p.type, p.name, p.version) for p in named if p.type != "deb"}
        assert others == {
            ("pypi", "jinja2", "3.1.2"), ("pypi", "requests", "2.31.0"), ("npm", "lodash", "4.17.20"),
            ("npm", "minimist", "1.2.8"),
        }  # fmt: skip
        versions = {one.name: one.version for one in scanned.packages}
        assert all(versions[name] == version for name, version, _, _ in INSTALLED)

    def test_a_scan_of_the_cyclonedx_document_finds_the_same_as_of_the_image(
        self, scanned: ScanResult, cache: Path
    ) -> None:
        again = scanner(cache).scan_sbom(scanned.cyclonedx)
        same = ("id", "package", "installed", "fixed", "status", "severity", "purl", "source_package", "layer", "cvss")

        def told(vulnerabilities: tuple[Vulnerability, ...]) -> set[tuple[object, ...]]:
            return {tuple(getattr(one, name) for name in same) for one in vulnerabilities}

        assert told(again.vulnerabilities) == told(scanned.findings.vulnerabilities)
        assert len(again.vulnerabilities) == len(scanned.findings.vulnerabilities) == 8

    def test_many_are_scanned_side_by_side(self, scanned: ScanResult, cache: Path) -> None:
        one = scanner(cache)
        database = one.database()
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: one.scan_sbom(scanned.cyclonedx, database=database), range(8)))
        assert {len(result.vulnerabilities) for result in results} == {8}

    def test_a_document_that_is_none_has_no_findings_but_an_error(self, cache: Path) -> None:
        for document in (b"", b"{}", b'{"bomFormat": "CycloneDX", "components": [{"purl":'):
            with pytest.raises(ScanReportInvalid):
                scanner(cache).scan_sbom(document)

    def test_a_package_that_trivy_passes_over_is_an_error(self, scanned: ScanResult, cache: Path) -> None:
        document = json.loads(scanned.cyclonedx)
        odd = {"bom-ref": "odd", "type": "library", "name": "odd", "version": "1", "purl": "pkg:generic/odd@1"}
        document["components"].append(odd)
        with pytest.raises(ScanReportInvalid, match="passed over 1 of 14 packages"):
            scanner(cache).scan_sbom(json.dumps(document).encode())


class TestWhatCannotBeJudged:
    def test_a_package_database_that_trivy_reads_only_in_part_is_an_error(self, staging: Registry, cache: Path) -> None:
        status = stanza("good", "1.0", "amd64", "good") + stanza("bad", "not a version", "amd64", "bad")
        image = Image(files={"var/lib/dpkg/status": status.encode()})
        with pytest.raises(ScanIncomplete, match="Invalid version"):
            scanner(cache).scan(staging.push("staging/bad-version", image))
