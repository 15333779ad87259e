"""Everything that can end a scan early. Each is an error of its own, none an image without findings."""

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.errors import Cancelled, GoldsmithError, ProgramMissing, ProgramTimedOut
from builder.scanning.binary import Credentials
from builder.scanning.errors import (
    ScanFailed,
    ScannerUnusable,
    ScanReportInvalid,
)
from tests.integration.scanning_server import (
    CLEAN,
    TRIVY,
    Registry,
    install,
    registry,
    scanner,
)

PASSWORD = "open-sesame"
HASH = "$2b$04$4UrFtgBpQzTo1kkNkCDq6e9GorjbsleqJl2KzwFY8T5qjsxlweMiq"  # bcrypt of it


REFERENCE = "127.0.0.1:1/staging/app@sha256:" + "0" * 64


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trivy") / "cache"
    install(directory)
    return directory


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


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


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
