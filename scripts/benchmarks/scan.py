"""Scanning: ours end to end beside bare Trivy, and released images scanned again from their stored SBOMs.

The image is made of this machine: the first 150 packages that dpkg has, all documentation and Python's packages, in one
layer of a loopback registry. The database is the sample. Ours is `Scanner.scan`: findings typed and stripped, SARIF,
both SBOMs, checked for completeness. By hand the same documents take three runs of Trivy: JSON, CycloneDX, SPDX. In
turns, three times, the median counts, each in processes of its own; cold without a memory of layers, warm with one.

Scanned again: 200 CycloneDX documents, in two threads; beside it Trivy on the image itself, which it remembers.

Goals: end to end no slower than bare Trivy's single run by more than a second; 200 SBOMs in 30 s.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from builder.image.documents import CONFIG, MANIFEST, Descriptor
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.credentials import NoCredentials
from builder.registry.reference import Repository
from builder.scanning.binary import Trivy
from builder.scanning.database import ensure, installed
from builder.scanning.sample.build import build_sample
from builder.scanning.sources import DirectorySource
from builder.scanning.trivy import Scanner
from scripts.stack.services import Stack

_TRIVY = Path(sys.executable).with_name("trivy")
_PARTS = ("etc/os-release", "etc/debian_version", "usr/share/doc", "usr/lib/python3")
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_RUNS = 3
_PACKAGES = 150
_SBOMS = 200
_DAY = timedelta(days=1)
_QUIET = ("--no-progress", "--skip-version-check", "--disable-telemetry", "--offline-scan", "--skip-db-update",
          "--skip-java-db-update", "--skip-check-update", "--image-src", "remote")  # fmt: skip
_ALL = ("--scanners", "vuln,secret,license", "--image-config-scanners", "misconfig,secret", "--list-all-pkgs")


@dataclass(frozen=True)
class _Run:
    """Seconds, and bytes of memory at the most: of Trivy's largest process, and of ours beside it."""

    seconds: float
    trivy: int
    ours: int = 0


def main() -> int:
    if sys.argv[1:2] == ["ours"]:
        return _measured(Path(sys.argv[2]), sys.argv[3])
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as directory:
        work = Path(directory)
        stack = Stack(work / "stack", any_ports=True)
        stack.start("registry")
        try:
            _compare(work, _push(stack.registry, work))
        finally:
            stack.process("registry").stop()
    return 0


def _compare(work: Path, reference: str) -> None:
    cache = work / "cache"
    made = datetime.now(UTC) - timedelta(hours=1)
    build_sample(made, made + _DAY).write(work / "offer")
    ensure(Trivy(_TRIVY), DirectorySource(work / "offer"), cache, maximum_age=2 * _DAY, timeout=60)
    ways: dict[str, Callable[[bool], _Run]] = {
        "Goldsmith, all of it": lambda cold: _ours(cache, reference, cold=cold),
        "Trivy, JSON alone": lambda cold: _bare(work, cache, reference, ["json"], cold=cold),
        "Trivy, JSON, CycloneDX, SPDX": lambda cold: _bare(
            work, cache, reference, ["json", "cyclonedx", "spdx-json"], cold=cold
        ),
    }
    print(f"load {os.getloadavg()[0]:.1f}\n\n| | cold | warm | peak of Trivy | peak of ours |")
    print("| --- | --- | --- | --- | --- |")
    turns = [{name: (way(True), way(False)) for name, way in ways.items()} for _ in range(_RUNS)]
    for name in ways:
        cold, warm = (_median([turn[name][at] for turn in turns]) for at in (0, 1))
        ours = f"{cold.ours / 1e6:.0f} MB" if cold.ours else ""
        print(f"| {name} | {cold.seconds:.2f} s | {warm.seconds:.2f} s | {cold.trivy / 1e6:.0f} MB | {ours} |")
    _again(work, cache, reference)


def _again(work: Path, cache: Path, reference: str) -> None:
    scanner = _scanner(cache)
    result = scanner.scan(reference)
    documents = []
    for _ in range(_SBOMS):
        document = json.loads(result.cyclonedx)
        document["serialNumber"] = f"urn:uuid:{uuid.uuid4()}"
        documents.append(json.dumps(document).encode())
    database = scanner.database()
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda one: scanner.scan_sbom(one, database=database), documents))
    seconds = time.monotonic() - begun
    same = {(v.id, v.package) for v in result.findings.vulnerabilities}
    assert all({(v.id, v.package) for v in one.vulnerabilities} == same for one in found)
    once = _median([_bare(work, cache, reference, ["json"], cold=False) for _ in range(_RUNS)])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(
        f"\n{_SBOMS} SBOMs of {result.package_count} packages: {seconds:.1f} s ({seconds / _SBOMS:.3f} s each), the "
        f"same {len(same)} vulnerabilities as the image; Trivy on remembered images would take "
        f"{once.seconds * _SBOMS:.0f} s one by one; no process above {peak / 1e6:.0f} MB\nload {os.getloadavg()[0]:.1f}"
    )


def _scanner(cache: Path) -> Scanner:
    return Scanner(Trivy(_TRIVY), cache, timeout=300, maximum_age=2 * _DAY)


def _ours(cache: Path, reference: str, *, cold: bool) -> _Run:
    if cold:
        subprocess.run(["rm", "-rf", str(cache / "layers")], check=True)
    command = [sys.executable, "-m", "scripts.benchmarks.scan", "ours", str(cache), reference]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return _Run(told["seconds"], told["trivy"], told["ours"])


def _measured(cache: Path, reference: str) -> int:
    scanner = _scanner(cache)
    scanner.identity()  # a worker knows its binary long before
    begun = time.monotonic()
    scanner.scan(reference)
    seconds = time.monotonic() - begun
    peaks = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    print(json.dumps({"seconds": seconds, "trivy": peaks[0], "ours": peaks[1]}))
    return 0


def _bare(work: Path, cache: Path, reference: str, forms: Sequence[str], *, cold: bool) -> _Run:
    own = work / "bare"
    if cold:
        subprocess.run(["rm", "-rf", str(own)], check=True)
    own.mkdir(exist_ok=True)
    for part in ("db", "java-db"):
        link = own / part
        link.unlink(missing_ok=True)
        link.symlink_to(installed(cache, 2 * _DAY).directory / part)
    peak, begun = 0, time.monotonic()
    for form in forms:
        scanners = _ALL if form == "json" else ()
        command = [str(_TRIVY), "image", *_QUIET, *scanners, "--cache-dir", str(own), "--format", form, "--output",
                   str(work / f"bare.{form}"), reference]  # fmt: skip
        child = subprocess.Popen(command, cwd=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, form
        peak = max(peak, usage.ru_maxrss * 1024)
    return _Run(time.monotonic() - begun, peak)


def _median(runs: Sequence[_Run]) -> _Run:
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def _push(host: str, work: Path) -> str:
    # Into files, not memory: what this process has in memory would count as its children's peak.
    layer, packed = work / "layer.tar", work / "layer.tar.gz"
    with tarfile.open(layer, mode="w") as tar:
        for part in _PARTS:
            tar.add(Path("/") / part, part)
        status = b"\n\n".join(Path("/var/lib/dpkg/status").read_bytes().split(b"\n\n")[:_PACKAGES]) + b"\n"
        member = tarfile.TarInfo("var/lib/dpkg/status")
        member.size = len(status)
        tar.addfile(member, io.BytesIO(status))
    with layer.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target_file:
        shutil.copyfileobj(source, target_file)
    config = json.dumps(
        {
            "architecture": "amd64", "os": "linux", "config": {"User": "65532"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}"]},
        }
    ).encode()  # fmt: skip
    target = Repository(host, "bench/scan")
    with RegistryClient(Access(credentials=NoCredentials()), lock_directory=work) as registry:
        parts: list[Descriptor] = [
            registry.blobs.push_bytes(target, config, CONFIG),
            Descriptor(media_type=_LAYER, digest=f"sha256:{_sha256(packed)}", size=packed.stat().st_size),
        ]
        registry.blobs.push(target, packed, parts[1])
        described = [one.model_dump(by_alias=True, exclude_none=True) for one in parts]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
        body = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        registry.manifests.put(target.at(digest), body)
    print(f"an image of {layer.stat().st_size / 1e6:.0f} MB, {packed.stat().st_size / 1e6:.0f} MB packed")
    return f"{target}@{digest}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
