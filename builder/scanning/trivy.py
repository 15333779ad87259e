"""The scanner: one run of Trivy on one image by digest, taken apart into findings and bills of materials."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from builder.errors import ProgramFailed
from builder.scanning.binary import QUIET, Credentials, Trivy, last_words, private_directory
from builder.scanning.database import Database, installed
from builder.scanning.errors import ScanFailed, ScannerUnusable, ScanReportInvalid
from builder.scanning.findings import DatabaseIdentity, Findings, ScannerIdentity, ScanResult
from builder.scanning.layers import LayerMemory
from builder.scanning.platforms import buckets, covers
from builder.scanning.report import read_report, read_report_on_packages
from builder.scanning.sarif import sarif
from builder.scanning.sbom import check_complete, cyclonedx_purls

_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}")
_PLAIN = (
    "--list-all-pkgs", "--format", "json", "--ignorefile", "", "--offline-scan", "--skip-db-update",
    "--skip-java-db-update",
)  # fmt: skip
_SCAN = (
    *_PLAIN, "--image-src", "remote", "--scanners", "vuln,secret,license", "--image-config-scanners",
    "misconfig,secret", "--secret-config", "", "--skip-check-update",
)  # fmt: skip
_SCAN_SBOM = ("sbom", *_PLAIN, *QUIET, "--scanners", "vuln", "--cache-backend", "memory")
_CONVERT_SECONDS = 120.0
_MAXIMUM_REPORT = 256 * 1024 * 1024
_Ahead = tuple[str, DatabaseIdentity, ScannerIdentity]


class Scanner:
    """Scans with one binary and the database below `cache_dir`.

    `timeout` is in seconds, for one run. A database older than `maximum_age` is refused: Trivy itself would use it
    without a word. Where `allow_stale` is given it is used, and the result's `database.stale` says so. Scans may run
    side by side, in threads and in processes.
    """

    _AHEAD = 4

    def __init__(self, trivy: Trivy, cache_dir: Path, *, timeout: float, maximum_age: timedelta) -> None:
        self._trivy = trivy
        self._cache_dir = cache_dir
        self._layers = LayerMemory(cache_dir / "layers")
        self._ahead: dict[_Ahead, ScanResult] = {}
        self._timeout = timeout
        self._maximum_age = maximum_age

    def identity(self) -> ScannerIdentity:
        """Raises ScannerUnusable, ScannerNotAllowed, ProgramMissing or ProgramFailed."""
        return self._trivy.identity()

    def database(self, *, allow_stale: bool = False) -> Database:
        """The database in place. Raises DatabaseMissing, DatabaseStale or DatabaseCorrupt."""
        return installed(self._cache_dir, self._maximum_age, allow_stale=allow_stale)

    def scan(
        self,
        reference: str,
        *,
        insecure: bool = False,
        credentials: Credentials | None = None,
        allow_stale: bool = False,
        should_stop: Callable[[], bool] | None = None,
    ) -> ScanResult:
        """Scan `host[:port]/repository@sha256:…` for vulnerabilities, secrets, licences and mistakes in its
        configuration.

        The digest must be an image's manifest: of an index, Trivy would scan one platform and say nothing of the rest.
        `insecure` allows plain HTTP (loopback needs no leave) and unknown certificates.
        Raises DatabaseMissing, DatabaseStale, DatabaseCorrupt, ScanFailed, ScanIncomplete, ScanReportInvalid,
        ScannerUnusable, ScannerNotAllowed, ProgramTimedOut or Cancelled. There is no result but a complete one.
        """
        if not _PINNED.fullmatch(reference):
            raise ScannerUnusable(
                f"{reference!r:.200} is not an image by digest: what is scanned must be what is signed"
            )
        scanner = self.identity()
        database = self.database(allow_stale=allow_stale)
        ahead = self._ahead.pop((reference, database.identity, scanner), None)
        return ahead or self._scan(reference, scanner, database, insecure, credentials, should_stop)

    def scan_ahead(
        self,
        reference: str,
        *,
        insecure: bool = False,
        credentials: Credentials | None = None,
        allow_stale: bool = False,
    ) -> None:
        """Scan what will be asked for soon: `scan` then has its answer, once, if scanner and database are the same.

        Raises what `scan` raises.
        """
        result = self.scan(reference, insecure=insecure, credentials=credentials, allow_stale=allow_stale)
        while len(self._ahead) >= self._AHEAD:
            self._ahead.pop(next(iter(self._ahead)))
        self._ahead[reference, result.database, result.scanner] = result

    def scan_sbom(
        self,
        cyclonedx: bytes,
        *,
        database: Database | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Findings:
        """The vulnerabilities of what a CycloneDX document of ours names: what a scan of the image itself would find.

        No image is pulled. `database` is what `database` answers, for many documents to be judged by the same one;
        without it, the one in place. Raises what `scan` raises.
        """
        database = database or self.database()
        purls = cyclonedx_purls(cyclonedx)
        with private_directory() as directory:
            document, output = directory / "bom.cdx.json", directory / "report.json"
            document.write_bytes(cyclonedx)
            arguments = [*_SCAN_SBOM, "--cache-dir", str(database.directory), "--output", str(output), str(document)]
            try:
                self._trivy.run(arguments, cwd=directory, timeout=self._timeout, should_stop=should_stop)
            except ProgramFailed as error:
                raise ScanFailed(f"Trivy could not scan a bill of materials: {last_words(error)}") from error
            return read_report_on_packages(_read_output(output, "report on a bill of materials"), purls)

    def _scan(
        self,
        reference: str,
        scanner: ScannerIdentity,
        database: Database,
        insecure: bool,
        credentials: Credentials | None,
        should_stop: Callable[[], bool] | None,
    ) -> ScanResult:
        started_at, begun = datetime.now(UTC), time.monotonic()
        # read first: updates may clear this database away before the scan ends
        advisories = buckets(database.directory / "db" / "trivy.db")
        with private_directory() as directory:
            raw = self._run_remembering(reference, scanner, database, directory, insecure, credentials, should_stop)
            report = read_report(raw, reference)
            inventory = directory / "inventory.json"
            inventory.write_bytes(report.inventory)
            with ThreadPoolExecutor(2, thread_name_prefix="convert") as beside:
                cyclonedx, spdx = beside.map(
                    lambda form: self._convert(inventory, form, directory), ("cyclonedx", "spdx-json")
                )
        check_complete(report.purls, cyclonedx, spdx)
        return ScanResult(
            reference=reference,
            findings=report.findings,
            package_count=len(report.packages),
            packages=report.packages,
            operating_system=report.operating_system,
            report=report.document,
            cyclonedx=cyclonedx,
            spdx=spdx,
            sarif=sarif(reference, report.findings, scanner, database.identity),
            scanner=scanner,
            database=database.identity,
            covered=covers(advisories, report.operating_system),
            started_at=started_at,
            seconds=time.monotonic() - begun,
        )

    def _run_remembering(
        self,
        reference: str,
        scanner: ScannerIdentity,
        database: Database,
        directory: Path,
        insecure: bool,
        credentials: Credentials | None,
        should_stop: Callable[[], bool] | None,
    ) -> bytes:
        run = partial(
            self._run,
            reference,
            directory=directory,
            insecure=insecure,
            credentials=credentials,
            should_stop=should_stop,
        )
        with self._layers.borrowed(scanner.sha256, database.directory) as memory:
            if memory is not None:
                try:
                    return run(memory, "fs")
                except ScanFailed as error:
                    if not _may_be_the_memory(error):
                        raise
                    self._layers.forget()
            return run(database.directory, "memory")

    def _run(
        self,
        reference: str,
        cache_dir: Path,
        backend: str,
        *,
        directory: Path,
        insecure: bool,
        credentials: Credentials | None,
        should_stop: Callable[[], bool] | None,
    ) -> bytes:
        output = directory / "report.json"
        output.unlink(missing_ok=True)
        kept = ("--cache-dir", str(cache_dir), "--cache-backend", backend)
        arguments = [*_SCAN, *kept, "--output", str(output), reference]
        try:
            self._trivy.run_on_registry(
                arguments,
                cwd=directory,
                timeout=self._timeout,
                insecure=insecure,
                credentials=credentials,
                should_stop=should_stop,
            )
        except ProgramFailed as error:
            raise ScanFailed(f"Trivy could not scan {reference}: {last_words(error)}") from error
        return _read_output(output, f"report on {reference}")

    def _convert(self, inventory: Path, form: str, directory: Path) -> bytes:
        output = directory / f"{form}.json"
        arguments = ["convert", "--format", form, "--output", str(output), str(inventory)]
        try:
            self._trivy.run(arguments, cwd=directory, timeout=_CONVERT_SECONDS)
        except ProgramFailed as error:
            raise ScanFailed(f"Trivy could not write the {form} document: {last_words(error)}") from error
        return _read_output(output, f"{form} document")


def _may_be_the_memory(error: ScanFailed) -> bool:
    """Whether Trivy gave up by itself, as it does on a damaged memory; then it is asked once more without one."""
    return isinstance(error.__cause__, ProgramFailed) and (error.__cause__.exit_code or 0) > 0


def _read_output(path: Path, name: str) -> bytes:
    """What Trivy wrote. Ending well without having written anything is a failure too."""
    try:
        if path.stat().st_size > _MAXIMUM_REPORT:
            raise ScanReportInvalid(f"Trivy's {name} is larger than {_MAXIMUM_REPORT // 2**20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise ScanFailed(f"Trivy ended without an error but left no {name}") from error
    if not content:
        raise ScanFailed(f"Trivy ended without an error but its {name} is empty")
    return content
