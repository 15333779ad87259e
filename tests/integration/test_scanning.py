"""Scanning with the real Trivy, on images in a real registry."""

import base64
import dataclasses
import hashlib
import io
import json
import os
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder.errors import Cancelled, GoldsmithError, ProgramMissing, ProgramTimedOut
from builder.policy.gate import evaluate
from builder.policy.policy import Policy
from builder.scanning.binary import Credentials, Trivy
from builder.scanning.database import DirectorySource, MirrorSource, ensure
from builder.scanning.errors import (
    DatabaseCorrupt,
    DatabaseMissing,
    DatabaseStale,
    ScanFailed,
    ScannerUnusable,
    ScanReportInvalid,
)
from builder.scanning.findings import ScanResult, Severity
from builder.scanning.sample.artifact import OciArtifact, database_artifact
from builder.scanning.sample.build import SampleDatabase, build_sample
from builder.scanning.sbom import cyclonedx_purls, spdx_purls
from builder.scanning.trivy import Scanner
from tests.integration.scanning_server import Image, Registry, registry

TRIVY = Path(__file__).parents[2] / ".goldsmith" / "venv" / "bin" / "trivy"
DAY = timedelta(days=1)

# A key that opens nothing, a token that was never given out.
KEY_LINE = "MIIEowIBAAKCAQEAx0Q2v5m8Jd1kPzq9s7Yt3Lh4Vw6Rn8Bc2Xe5Ug1Ia9Ko3Mp7"
KEY = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *[KEY_LINE] * 10, "-----END RSA PRIVATE KEY-----", ""])
TOKEN = "ghp_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"
NEIGHBOUR = "neighbour-of-a-secret"
IN_ENVIRONMENT = "value-in-the-environment"
IN_HISTORY = "value-in-the-history"
SECRET_VALUES = (KEY_LINE, TOKEN, NEIGHBOUR, IN_ENVIRONMENT, IN_HISTORY)

BOOKWORM = Image(
    packages=(
        ("openssl", "openssl", "3.0.11-1~deb12u1"),
        ("libssl3", "openssl", "3.0.11-1~deb12u1"),
        ("libc6", "glibc", "2.36-9+deb12u3"),
        ("tar", "tar", "1.34+dfsg-1.2+deb12u1"),
        ("hello", "hello", "2.10-3"),
    ),
    files={
        "opt/key.pem": KEY.encode(),
        "opt/settings": f"token={TOKEN}\nother={NEIGHBOUR}\n".encode(),
        "usr/lib/python3/dist-packages/urllib3-2.0.6.dist-info/METADATA": (
            b"Metadata-Version: 2.1\nName: urllib3\nVersion: 2.0.6\n"
        ),
    },
    environment=("PATH=/usr/bin", f"PASSWORD={IN_ENVIRONMENT}", f"GITHUB_TOKEN={TOKEN}"),
    history=(f"ENV DB_PASSWORD={IN_HISTORY}",),
    labels={"org.opencontainers.image.title": "app"},
)
CLEAN = Image(release="13", packages=(("openssl", "openssl", "3.5.9-1~deb13u1"), ("hello", "hello", "2.10-5")))


def sample(age: timedelta = timedelta(hours=1)) -> SampleDatabase:
    made = datetime.now(UTC) - age
    return build_sample(made, made + DAY)


def install(cache: Path, *, maximum_age: timedelta = 2 * DAY, age: timedelta = timedelta(hours=1)) -> None:
    offer = cache.with_name(f"{cache.name}-offer")
    sample(age).write(offer)
    ensure(Trivy(TRIVY), DirectorySource(offer), cache, maximum_age=maximum_age, timeout=30)


def scanner(cache: Path, *, binary: Path = TRIVY, timeout: float = 60) -> Scanner:
    return Scanner(binary, cache, timeout=timeout, maximum_age=2 * DAY)


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
        verdict = evaluate(Policy(), bookworm)
        assert not verdict.passed
        assert verdict.sample_database
        remedies = {o.remedy for rule in verdict.rules if not rule.passed for o in rule.offenders}
        assert "upgrade libssl3 3.0.11-1~deb12u1 to 3.0.11-1~deb12u2" in remedies
        assert evaluate(Policy(maximum_severity="none"), scanner(cache).scan(staging.push("a/b", CLEAN))).passed


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
        assert "no package" in evaluate(Policy(), result).explanation

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


class TestRegistryErrors:
    def test_an_image_that_is_not_there_is_an_error(self, staging: Registry, cache: Path) -> None:
        with pytest.raises(ScanFailed, match="MANIFEST_UNKNOWN"):
            scanner(cache).scan(f"{staging.host}/staging/none@sha256:{'0' * 64}")

    def test_a_registry_that_is_down_is_an_error_a_retry_can_help(self, cache: Path) -> None:
        with pytest.raises(ScanFailed, match="connection refused") as caught:
            scanner(cache).scan(f"127.0.0.1:1/staging/app@sha256:{'0' * 64}")
        assert caught.value.retryable

    @pytest.mark.parametrize(
        "reference", ["127.0.0.1:5000/app:latest", "--help@sha256:" + "0" * 64, "app@sha256:" + "0" * 63, ""]
    )
    def test_only_an_image_by_digest_is_scanned(self, cache: Path, reference: str) -> None:
        with pytest.raises(ScannerUnusable, match="by digest"):
            scanner(cache).scan(reference)

    def test_a_login_is_used_and_its_password_never_told(self, tmp_path: Path, cache: Path) -> None:
        with registry(tmp_path, htpasswd=f"robot:{HASH}\n", login=("robot", PASSWORD)) as guarded:
            reference = guarded.push("staging/clean", CLEAN)
            assert scanner(cache).scan(reference, credentials=Credentials("robot", PASSWORD)).package_count == 2
            with pytest.raises(ScanFailed, match="UNAUTHORIZED"):
                scanner(cache).scan(reference)
            with pytest.raises(ScanFailed, match="UNAUTHORIZED") as caught:
                scanner(cache).scan(reference, credentials=Credentials("robot", "wrong-password"))
            assert "wrong-password" not in str(caught.value) + repr(caught.value.__cause__)


PASSWORD = "open-sesame"
HASH = "$2b$04$4UrFtgBpQzTo1kkNkCDq6e9GorjbsleqJl2KzwFY8T5qjsxlweMiq"  # bcrypt of it


class TestDatabase:
    def test_without_a_database_there_is_no_result(self, staging: Registry, tmp_path: Path) -> None:
        with pytest.raises(DatabaseMissing):
            scanner(tmp_path).scan(staging.push("staging/clean", CLEAN))

    def test_with_an_old_database_there_is_no_result(self, staging: Registry, tmp_path: Path) -> None:
        install(tmp_path / "cache", maximum_age=9 * DAY, age=3 * DAY)
        with pytest.raises(DatabaseStale, match="72 hours old"):
            scanner(tmp_path / "cache").scan(staging.push("staging/clean", CLEAN))

    def test_with_a_damaged_database_there_is_no_result(self, staging: Registry, tmp_path: Path) -> None:
        install(tmp_path / "cache")
        (file,) = (tmp_path / "cache" / "databases").glob("*-*/db/trivy.db")
        file.write_bytes(file.read_bytes()[:20000])
        with pytest.raises(DatabaseCorrupt):
            scanner(tmp_path / "cache").scan(staging.push("staging/clean", CLEAN))

    def test_a_mirror_in_a_registry_is_pulled_by_trivy_and_known_as_the_sample(
        self, staging: Registry, tmp_path: Path
    ) -> None:
        database = sample()
        push(staging, "mirror/trivy-db", database_artifact(database.archive))
        source = MirrorSource(f"{staging.host}/mirror/trivy-db")
        identity = ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60)
        assert identity.sample
        assert identity.source == f"oci:{staging.host}/mirror/trivy-db"
        assert (identity.next_update - identity.updated_at) == DAY
        result = scanner(tmp_path / "cache").scan(staging.push("staging/bookworm", BOOKWORM))
        assert result.database == identity
        assert ("CVE-2023-5363", "openssl") in found(result)

    def test_a_mirror_behind_a_login(self, tmp_path: Path) -> None:
        with registry(tmp_path / "registry", htpasswd=f"robot:{HASH}\n", login=("robot", PASSWORD)) as guarded:
            push(guarded, "trivy-db", database_artifact(sample().archive))
            open_source = MirrorSource(f"{guarded.host}/trivy-db")
            source = dataclasses.replace(open_source, credentials=Credentials("robot", PASSWORD))
            with pytest.raises(DatabaseMissing, match="UNAUTHORIZED"):
                ensure(Trivy(TRIVY), open_source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60)
            assert ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60).sample

    def test_a_mirror_that_is_down_leaves_the_old_database_until_its_age_ends_it(self, tmp_path: Path) -> None:
        with registry(tmp_path / "registry") as mirror:
            push(mirror, "trivy-db", database_artifact(sample(timedelta(hours=30)).archive))
            source = MirrorSource(f"{mirror.host}/trivy-db")
            first = ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60)
        attempted = tmp_path / "cache" / "databases" / "attempted"
        os.utime(attempted, (1, 1))  # as if the last attempt lay long back, so that the next call tries again
        assert ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60) == first
        assert attempted.stat().st_mtime > 1, "a fetch was tried"
        with pytest.raises(DatabaseStale, match=r"30 hours old.*connection refused"):
            ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=DAY, timeout=60)

    def test_a_mirror_with_something_else_is_no_database(self, staging: Registry, tmp_path: Path) -> None:
        push(staging, "mirror/wrong", database_artifact(b"not an archive"))
        with pytest.raises(DatabaseMissing, match="could be fetched") as caught:
            ensure(
                Trivy(TRIVY),
                MirrorSource(f"{staging.host}/mirror/wrong"),
                tmp_path,
                maximum_age=2 * DAY,
                timeout=60,
            )
        assert "GOLDSMITH_TRIVY_DATABASE" in (caught.value.hint or "")


def push(server: Registry, repository: str, artifact: OciArtifact) -> None:
    for blob in artifact.blobs.values():
        server.push_blob(repository, blob)
    server.put_manifest(repository, artifact.tag, artifact.manifest)


class TestMisbehavingScanner:
    """The binary here is the shell under Trivy's name: what it does is the script named by its first argument.

    A script cannot stand for Trivy itself, since one is refused (see the last test).
    """

    REPORT = 'while [ "$1" != --output ]; do shift; done; output="$2"; '

    @pytest.fixture
    def misbehave(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Callable[..., GoldsmithError]]:
        scripts = tmp_path / "scripts"
        scripts.mkdir()
        binary = tmp_path / "trivy"
        binary.write_bytes(Path("/bin/bash").read_bytes())
        binary.chmod(0o755)
        monkeypatch.setenv("PATH", f"{scripts}:{os.environ['PATH']}")
        script(scripts / "version", 'echo \'{"Version":"0.0.1"}\'')

        def scan(image: str, convert: str = "exit 9", timeout: float = 20) -> GoldsmithError:
            script(scripts / "image", image)
            script(scripts / "convert", convert)
            with pytest.raises(GoldsmithError) as caught:
                scanner(cache, binary=binary, timeout=timeout).scan(REFERENCE)
            return caught.value

        return scan

    def test_that_kills_itself(self, misbehave: Callable[..., GoldsmithError]) -> None:
        error = misbehave("kill -KILL $$")
        assert isinstance(error, ScanFailed)
        assert "killed by signal 9" in error.detail

    def test_that_hangs(self, misbehave: Callable[..., GoldsmithError]) -> None:
        begun = time.monotonic()
        error = misbehave("sleep 600", timeout=1)
        assert isinstance(error, ProgramTimedOut)
        assert time.monotonic() - begun < 15

    def test_that_writes_nothing_and_ends_well(self, misbehave: Callable[..., GoldsmithError]) -> None:
        error = misbehave("exit 0")
        assert isinstance(error, ScanFailed)
        assert "left no report" in error.detail

    def test_that_writes_an_empty_report(self, misbehave: Callable[..., GoldsmithError]) -> None:
        error = misbehave(f'{self.REPORT} : > "$output"')
        assert isinstance(error, ScanFailed)
        assert "empty" in error.detail

    def test_that_writes_garbage(self, misbehave: Callable[..., GoldsmithError]) -> None:
        assert isinstance(misbehave(f'{self.REPORT} head -c 5000 /dev/urandom > "$output"'), ScanReportInvalid)

    def test_that_prints_garbage_without_end(self, misbehave: Callable[..., GoldsmithError]) -> None:
        assert isinstance(misbehave("exec yes"), ScanFailed)

    def test_that_writes_half_a_report(self, misbehave: Callable[..., GoldsmithError]) -> None:
        error = misbehave(f'{self.REPORT} printf \'{{"SchemaVersion":2,"Results":[{{"Vulnerab\' > "$output"')
        assert isinstance(error, ScanReportInvalid)
        assert "cut short" in error.detail

    def test_that_writes_a_report_of_another_version(self, misbehave: Callable[..., GoldsmithError]) -> None:
        error = misbehave(f'{self.REPORT} echo \'{{"SchemaVersion":3,"Results":[]}}\' > "$output"')
        assert isinstance(error, ScanReportInvalid)
        assert "SchemaVersion 3" in error.detail

    def test_whose_bill_of_materials_fails(self, misbehave: Callable[..., GoldsmithError]) -> None:
        report = json.dumps(
            {"SchemaVersion": 2, "ArtifactName": "a", "Metadata": {"RepoDigests": [REFERENCE]}, "Results": []}
        )
        error = misbehave(f"{self.REPORT} echo '{report}' > \"$output\"", convert="echo no room >&2; exit 3")
        assert isinstance(error, ScanFailed)
        assert "no room" in error.detail

    def test_whose_bill_of_materials_lacks_a_package(self, misbehave: Callable[..., GoldsmithError]) -> None:
        package = {"Name": "tar", "Identifier": {"PURL": "pkg:deb/debian/tar@1"}}
        report = json.dumps(
            {
                "SchemaVersion": 2,
                "ArtifactName": "a",
                "Metadata": {"RepoDigests": [REFERENCE]},
                "Results": [{"Packages": [package]}],
            }
        )
        error = misbehave(
            f"{self.REPORT} echo '{report}' > \"$output\"",
            convert=f'{self.REPORT} echo \'{{"bomFormat":"CycloneDX","spdxVersion":"SPDX-2.3"}}\' > "$output"',
        )
        assert isinstance(error, ScanReportInvalid)
        assert "pkg:deb/debian/tar@1" in error.detail

    def test_that_is_a_script_is_refused(self, cache: Path, tmp_path: Path) -> None:
        script(tmp_path / "trivy", f'exec {TRIVY} "$@"')
        with pytest.raises(ScannerUnusable, match="is a script"):
            scanner(cache, binary=tmp_path / "trivy").scan(REFERENCE)

    def test_that_is_another_program_is_refused(self, cache: Path) -> None:
        with pytest.raises(ScannerUnusable, match="does not tell a version"):
            scanner(cache, binary=Path("/bin/true")).scan(REFERENCE)

    def test_that_is_not_there(self, cache: Path, tmp_path: Path) -> None:
        with pytest.raises(ProgramMissing):
            scanner(cache, binary=tmp_path / "trivy").scan(REFERENCE)


REFERENCE = "127.0.0.1:1/staging/app@sha256:" + "0" * 64


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def slow(staging: Registry) -> str:
    """An image with much text to look for secrets in."""
    files = {f"opt/text{number}": os.urandom(3_000_000).hex().encode() for number in range(8)}
    return staging.push("staging/slow", dataclasses.replace(CLEAN, files=files))


class TestRealTrivyInterrupted:
    def test_killed_in_the_middle_is_an_error(self, slow: str, cache: Path) -> None:
        stop = threading.Event()
        killer = threading.Thread(target=kill_scans_of, args=(slow, stop))
        killer.start()
        try:
            with pytest.raises(ScanFailed, match="killed by signal 9"):
                scanner(cache).scan(slow)
        finally:
            stop.set()
            killer.join()

    def test_out_of_time_is_an_error_and_leaves_no_process(self, slow: str, cache: Path) -> None:
        with pytest.raises(ProgramTimedOut):
            scanner(cache, timeout=0.2).scan(slow)
        assert processes_with(slow) == []

    def test_cancelled_is_not_a_result(self, slow: str, cache: Path) -> None:
        with pytest.raises(Cancelled):
            scanner(cache).scan(slow, should_stop=lambda: True)
        assert processes_with(slow) == []


def processes_with(argument: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argument.encode() in command:
                found.append(int(entry.name))
    return found


def kill_scans_of(reference: str, stop: threading.Event) -> None:
    while not stop.is_set():
        for process in processes_with(reference):
            os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.01)
