"""The scanner under limits, in the wrong hands and on a full disk: an error that says so, never an empty result."""

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from builder.scanning import binary
from builder.scanning.binary import Trivy
from builder.scanning.database import ensure, installed, update
from builder.scanning.errors import (
    DatabaseMissing,
    DatabaseStale,
    ScanFailed,
    ScanIncomplete,
    ScannerNotAllowed,
)
from builder.scanning.sources import DirectorySource
from builder.scanning.trivy import Scanner
from tests.integration.planted_database import offer, planted
from tests.integration.scanning_server import BOOKWORM, CLEAN, DAY, TRIVY, Registry, install, registry, scanner
from tests.integration.test_scanning_failures import REFERENCE, script

TRIVY_HERE = Trivy(TRIVY)


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    install(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def limited(cache: Path, trivy: Trivy) -> Scanner:
    return Scanner(trivy, cache, timeout=60, maximum_age=2 * DAY)


class TestLimits:
    def test_too_much_memory_is_an_error(self, staging: Registry, cache: Path) -> None:
        reference = staging.push("staging/bookworm", BOOKWORM)
        with pytest.raises(ScanFailed, match="more than 30 MiB of memory"):
            limited(cache, Trivy(TRIVY, memory=30 * 2**20)).scan(reference)
        assert limited(cache, Trivy(TRIVY, memory=512 * 2**20)).scan(reference).findings.vulnerabilities

    def test_a_file_that_grows_past_its_limit_is_an_error(
        self, staging: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(binary, "_LARGEST_FILE", 4096)
        with pytest.raises(ScanFailed):
            scanner(cache).scan(staging.push("staging/bookworm", BOOKWORM))


class TestFullDisk:
    def test_under_the_scan_it_is_an_error(
        self, staging: Registry, cache: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reference = staging.push("staging/bookworm", BOOKWORM)
        monkeypatch.setattr("tempfile.tempdir", str(small_disk))
        (small_disk / "ballast").write_bytes(bytes(250 * 1024))
        with pytest.raises((ScanFailed, ScanIncomplete)):
            scanner(cache).scan(reference)

    def test_under_the_database_it_is_an_error_and_what_is_there_stays(self, small_disk: Path, tmp_path: Path) -> None:
        trivy, cache = Trivy(TRIVY), small_disk / "cache"
        offer(tmp_path / "offer", planted(), timedelta(hours=2))
        source = DirectorySource(tmp_path / "offer")
        first = ensure(trivy, source, cache, maximum_age=2 * DAY, timeout=30)
        (small_disk / "ballast").write_bytes(bytes(_room(small_disk) - 8192))
        offer(tmp_path / "offer", planted(), timedelta(hours=1))
        with pytest.raises(DatabaseMissing):
            update(trivy, source, cache, maximum_age=2 * DAY, timeout=30)
        assert ensure(trivy, source, cache, maximum_age=2 * DAY, timeout=30) == first
        (small_disk / "ballast").unlink()
        assert update(trivy, source, cache, maximum_age=2 * DAY, timeout=30).updated_at > first.updated_at


def _room(place: Path) -> int:
    state = os.statvfs(place)
    return state.f_bavail * state.f_bsize


class TestAllowedBinaries:
    DIGEST = hashlib.sha256(TRIVY.read_bytes()).hexdigest()

    def test_one_of_several_allowed_ones_runs(self, staging: Registry, cache: Path) -> None:
        trivy = Trivy(TRIVY, allowed=("0" * 64, self.DIGEST))
        assert limited(cache, trivy).scan(staging.push("staging/clean", CLEAN)).scanner.sha256 == self.DIGEST

    def test_another_is_not_even_started(self, cache: Path, tmp_path: Path) -> None:
        marker, impostor = tmp_path / "started", tmp_path / "trivy"
        impostor.write_bytes(Path("/bin/bash").read_bytes())
        impostor.chmod(0o755)
        scripts = tmp_path / "scripts"
        scripts.mkdir()
        script(scripts / "version", f"touch {marker}")
        with pytest.raises(ScannerNotAllowed, match="it was not started") as caught:
            limited(cache, Trivy(impostor, allowed=(self.DIGEST,))).scan(REFERENCE)
        assert hashlib.sha256(impostor.read_bytes()).hexdigest() in caught.value.detail
        assert not marker.exists()

    def test_one_that_is_exchanged_between_two_scans_is_noticed(
        self, staging: Registry, cache: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "trivy"
        copy.write_bytes(TRIVY.read_bytes())
        copy.chmod(0o755)
        before = copy.stat()
        one = limited(cache, Trivy(copy, allowed=(self.DIGEST,)))
        reference = staging.push("staging/clean", CLEAN)
        one.scan(reference)
        with copy.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x01")
        os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ScannerNotAllowed):
            one.scan(reference)


class TestStaleDatabase:
    def test_where_it_is_allowed_it_is_used_and_marked(self, staging: Registry, tmp_path: Path) -> None:
        install(tmp_path / "cache", maximum_age=9 * DAY, age=3 * DAY)
        one, reference = scanner(tmp_path / "cache"), staging.push("staging/bookworm", BOOKWORM)
        with pytest.raises(DatabaseStale):
            one.scan(reference)
        result = one.scan(reference, allow_stale=True)
        assert result.database.stale
        assert result.findings.vulnerabilities
        one.scan_ahead(reference, allow_stale=True)
        with pytest.raises(DatabaseStale):
            one.scan(reference)

    def test_a_fresh_one_is_not_marked(self, staging: Registry, cache: Path) -> None:
        assert not scanner(cache).scan(staging.push("staging/clean", CLEAN), allow_stale=True).database.stale

    def test_a_fetch_may_bring_a_stale_one_only_where_that_is_allowed(self, tmp_path: Path) -> None:
        offer(tmp_path / "offer", planted(), 3 * DAY)
        source, cache = DirectorySource(tmp_path / "offer"), tmp_path / "cache"
        with pytest.raises(DatabaseStale):
            ensure(Trivy(TRIVY), source, cache, maximum_age=2 * DAY, timeout=30)
        assert ensure(Trivy(TRIVY), source, cache, maximum_age=2 * DAY, timeout=30, allow_stale=True).stale
        with pytest.raises(DatabaseStale):
            installed(cache, 2 * DAY)


class TestUpdatedMeanwhile:
    def test_each_scan_rests_on_the_database_that_it_names(self, staging: Registry, tmp_path: Path) -> None:
        """Two databases take turns as fast as they can; one names a vulnerability otherwise than the other."""
        reference = staging.push("staging/bookworm", BOOKWORM)
        cache, stop, errors = tmp_path / "cache", threading.Event(), list[BaseException]()
        names, sources = {}, []
        for name in ("CVE-2005-2541", "CVE-2005-9999"):
            offer(tmp_path / name, planted().replace(b"CVE-2005-2541", name.encode()))
            sources.append(DirectorySource(tmp_path / name))
            names[update(TRIVY_HERE, sources[-1], cache, maximum_age=2 * DAY, timeout=30).digest] = name

        def exchange() -> None:
            try:
                while not stop.is_set():
                    for source in sources:
                        update(TRIVY_HERE, source, cache, maximum_age=2 * DAY, timeout=30)
                        stop.wait(0.35)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=exchange)
        thread.start()
        try:
            results = [scanner(cache).scan(reference) for _ in range(8)]
        finally:
            stop.set()
            thread.join()
        assert errors == []
        for result in results:
            assert {v.id for v in result.findings.vulnerabilities if v.package == "tar"} == {
                names[result.database.digest]
            }
        assert len({result.database.digest for result in results}) == 2


class TestComplaints:
    @pytest.fixture
    def stand_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A program under Trivy's name that ends well and says what `said` holds."""
        program, scripts = tmp_path / "trivy", tmp_path / "scripts"
        program.write_bytes(Path("/bin/bash").read_bytes())
        program.chmod(0o755)
        scripts.mkdir()
        script(scripts / "version", 'echo \'{"Version":"0.0.1"}\'')
        report = {"SchemaVersion": 2, "ArtifactName": "a", "Metadata": {"RepoDigests": [REFERENCE]}, "Results": []}
        (tmp_path / "report").write_text(json.dumps(report))
        script(
            scripts / "image",
            f'cat {tmp_path}/said >&2; while [ "$1" != --output ]; do shift; done; cp {tmp_path}/report "$2"',
        )
        script(
            scripts / "convert",
            'while [ "$1" != --output ]; do shift; done; '
            'echo \'{"bomFormat":"CycloneDX","spdxVersion":"SPDX-2.3"}\' > "$2"',
        )
        monkeypatch.setenv("PATH", f"{scripts}:{os.environ['PATH']}")
        return program

    def test_an_error_on_stderr_is_no_empty_result_though_it_ends_well(
        self, stand_in: Path, cache: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "said").write_text(
            '2026-11-24T00:00:00Z\tERROR\t[secret] Failed to read content\terr="no space"\n' + "more\n" * 900_000
        )
        with pytest.raises(ScanIncomplete, match="Failed to read content"):
            scanner(cache, binary=stand_in).scan(REFERENCE)

    def test_a_harmless_one_is(self, stand_in: Path, cache: Path, tmp_path: Path) -> None:
        (tmp_path / "said").write_text("2026-11-24T00:00:00Z\tERROR\tFalling back to embedded checks\n")
        assert scanner(cache, binary=stand_in).scan(REFERENCE).package_count == 0
