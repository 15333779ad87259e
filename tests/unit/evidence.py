"""A finished build's evidence, small and true to form, for tests of what is made from it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from builder.engine.trial import TestResult
from builder.image.layer import Compression
from builder.pipeline.evidence import (
    Attestation,
    BuildEvidence,
    DifferingPath,
    Matched,
    RebuildEvidence,
    ReleaseEvidence,
    ScanEvidence,
    StagedImage,
    kept,
)
from builder.planning.keys import build_key
from builder.planning.lock import Lock, LockedArchive, LockedBase, LockedFile, LockedPackage, Requested
from builder.policy.facts import Facts
from builder.policy.verdict import Verdict
from builder.recipes.model import Base, DebianBase
from builder.scanning.findings import DatabaseIdentity, Findings, ScannerIdentity

DAY = datetime(2026, 11, 23, tzinfo=UTC)


def digest(character: str) -> str:
    return "sha256:" + character * 64


def package(name: str, version: str = "1:2.0-1+b1") -> LockedPackage:
    return LockedPackage(name=name, version=version, architecture="amd64", size=9, sha256="e" * 64)


def lock(image: str | None = None, recipe: str | None = None) -> Lock:
    """On bootstrapped Debian; or on an image, given by reference, or by digest if it is a recipe's."""
    if image is None:
        base = LockedBase(suite="trixie", architecture="amd64", packages=(package("libc6"),))
        asked = Base(debian=DebianBase(suite="trixie"))
    else:
        base = LockedBase(suite="trixie", architecture="amd64", image=image, recipe=recipe)
        asked = Base(recipe=recipe) if recipe else Base(image=image)
    return Lock(
        requested=Requested(base=asked, packages=("nginx-light",)),
        base=base,
        packages=(package("nginx-light"),),
        archives=(LockedArchive(suite="trixie", label="Debian", release_sha256="f" * 64, date="Sat, 21 Nov"),),
        files=(LockedFile(path="/etc/motd", sha256="d" * 64),),
        epoch=1_700_000_000,
        builder="goldsmith 0",
    )


def build_evidence(image: str = digest("a"), used: Lock | None = None, *, given: bool = False) -> BuildEvidence:
    used = used or lock()
    return BuildEvidence(
        lock=used,
        lock_digest=used.digest,
        lock_given=given,
        build_key=build_key(digest("1"), used),
        materials_digest=digest("7"),
        image=StagedImage(
            manifest_digest=image, manifest_size=500, config_digest=digest("2"), layers=(digest("3"),),
            diff_ids=(digest("4"),), compression=Compression(), compressed_size=1234, inventory_digest=digest("5"),
            inventory_root="6" * 64, paths=7, packages=2, architecture="amd64",
        ),
        tests=(TestResult(name="command true", passed=True, seconds=0.1),),
        engine="docker 20.10",
        hermetic=True,
    )  # fmt: skip


def scan_evidence(reference: str = "registry.example/x@" + digest("a")) -> ScanEvidence:
    return ScanEvidence(
        scanner=ScannerIdentity(name="trivy", version="0.76.0", sha256="7" * 64),
        database=DatabaseIdentity(
            digest=digest("8"), updated_at=DAY, next_update=DAY, downloaded_at=DAY, source="sample", sample=True
        ),
        findings=Findings(),
        verdict=Verdict(passed=True, reference=reference, rules=(), sample_database=True, database_digest=digest("8")),
        report_digest=digest("9"),
        cyclonedx_digest=digest("b"),
        spdx_digest=digest("c"),
    )


def judged_evidence(facts: Facts) -> ScanEvidence:
    """Of a scan whose verdict rests on these facts."""
    found = scan_evidence(facts.reference)
    return found.model_copy(
        update={"verdict": found.verdict.model_copy(update={"facts_digest": facts.digest}), "findings": facts.findings}
    )


def release_evidence() -> ReleaseEvidence:
    return ReleaseEvidence(
        identity="https://sandbox.invalid/goldsmith",
        issuer="http://127.0.0.1:1",
        log_index=3,
        sandbox=True,
        repository="golden/web",
        tags=("1", "latest"),
        provenance_digest=digest("d"),
        referrers={},
    )


def rebuild_evidence(*differences: DifferingPath, attested: bool = True) -> RebuildEvidence:
    """Bit for bit and attested, or with these differences."""
    same = not differences
    return RebuildEvidence(
        image_digest=digest("a"),
        rebuilt_digest=digest("a" if same else "f"),
        matched=Matched(manifest=same, config=same, diff_ids=same, inventory=same),
        compression_then=Compression(),
        compression_now=Compression(),
        paths=7,
        differences=differences,
        differences_total=len(differences),
        offline=True,
        sources={"the registry": 2},
        attestation=Attestation(
            identity="https://sandbox.invalid/rebuilder", issuer="http://127.0.0.1:1", log_index=4, sandbox=True,
            referrer=digest("e"),
        ) if same and attested else None,
    )  # fmt: skip


def whole_evidence(image: str = digest("a")) -> dict[str, Any]:
    return {
        "build": kept(build_evidence(image)),
        "scan": kept(scan_evidence()),
        "release": kept(release_evidence()),
    }
