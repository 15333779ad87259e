"""Is a rebuilt image the one that was released? What matched, what differs, and the predicate that attests it.

docs/formats/reproduction.md describes the predicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from builder import __version__
from builder.forensics.compare import Report, Verdict, compare
from builder.image.digests import EMPTY_SHA256
from builder.image.documents import Descriptor, Manifest
from builder.image.entry import shown
from builder.image.inventory import open_inventory
from builder.image.layer import Compression
from builder.pipeline.composing import Composed
from builder.pipeline.evidence import DifferingPath, Matched, RebuildEvidence
from builder.pipeline.signed import SignedRecord
from builder.signing.statement import REPRODUCTION, Statement, Subject

_KEPT_DIFFERENCES = 1000
EMPTY_DIGEST = f"sha256:{EMPTY_SHA256}"


def compared(
    composed: Composed, digest: str, original: Manifest, golden: Path, then: Compression | None, *, diff_ids: bool
) -> RebuildEvidence:
    """`golden` is the inventory that was signed, `then` how the original was compressed; `diff_ids` says whether the
    original's layers, unpacked, are those that were rebuilt."""
    with open_inventory(golden) as (_, records), open_inventory(composed.inventory.path) as (_, rebuilt):
        report = compare(records, (record.entry for record in rebuilt), keep=_KEPT_DIFFERENCES)
    now = composed.layer.compression if composed.layer else Compression()
    return RebuildEvidence(
        image_digest=digest,
        rebuilt_digest=composed.manifest_digest,
        matched=Matched(
            manifest=composed.manifest_digest == digest,
            config=composed.manifest.config.digest == original.config.digest,
            diff_ids=diff_ids,
            inventory=report.verdict is Verdict.IDENTICAL,
        ),
        compression_then=then,
        compression_now=now,
        paths=report.golden_entries,
        differences=_differing(report),
        differences_total=report.drift_total + report.expected_total,
    )


def alike_but_for_compression(original: Manifest, rebuilt: Manifest) -> bool:
    """Whether two manifests differ in nothing but the digests and sizes of their layers."""

    def blank(manifest: Manifest) -> Manifest:
        kinds = tuple(Descriptor(media_type=one.media_type, digest=EMPTY_DIGEST, size=0) for one in manifest.layers)
        return manifest.model_copy(update={"layers": kinds})

    return blank(original) == blank(rebuilt)


def statement(
    evidence: RebuildEvidence,
    record: SignedRecord,
    repository: str,
    *,
    builder_id: str,
    engine: str,
    architecture: str,
    started: datetime,
) -> Statement:
    """What the rebuilder signs: who rebuilt what, from which record, where, when, and what matched."""
    predicate: dict[str, JsonValue] = {
        "matched": {
            "manifest": evidence.matched.manifest,
            "config": evidence.matched.config,
            "diffIds": evidence.matched.diff_ids,
            "inventory": evidence.matched.inventory,
        },
        "rebuiltDigest": {"sha256": evidence.rebuilt_digest.removeprefix("sha256:")},
        "record": {
            "provenance": {"sha256": record.bundle_digest.removeprefix("sha256:")},
            "lock": {"sha256": record.lock_digest.removeprefix("sha256:")},
            "materials": {"sha256": record.materials_digest.removeprefix("sha256:")},
            "builderId": record.provenance.run_details.builder.id,
            "signer": record.identity,
        },
        "rebuilder": {
            "id": builder_id,
            "version": {"goldsmith": __version__},
            "engine": engine,
            "architecture": architecture,
        },
        "compression": {
            "original": evidence.compression_then.model_dump(mode="json") if evidence.compression_then else None,
            "rebuilt": evidence.compression_now.model_dump(mode="json"),
        },
        "offline": evidence.offline,
        "materialsFrom": dict(evidence.sources),
        "startedOn": _rfc3339(started),
        "finishedOn": _rfc3339(datetime.now(UTC)),
    }
    subject = Subject.of(repository, evidence.image_digest)
    return Statement(subject=(subject,), predicateType=REPRODUCTION, predicate=predicate)


def outcome(evidence: RebuildEvidence) -> str:
    """What matched, in one line."""
    matched = evidence.matched
    if matched.manifest:
        return f"bit for bit: {evidence.image_digest}"
    if matched.config and matched.diff_ids:
        then, now = evidence.compression_then, evidence.compression_now
        why = f"compressed by {then.library} {then.version} then, by {now.library} {now.version} now" if then else ""
        return f"config and diff IDs match, the manifest does not: {why or 'compressed otherwise'}"
    if matched.inventory:
        return "every file matches, but the image's config does not"
    return f"{evidence.differences_total} paths differ"


def told(evidence: RebuildEvidence, most: int) -> Sequence[str]:
    """The differing paths, one a line."""
    lines = [f"{', '.join(one.kinds)}: {one.path}" for one in evidence.differences[:most]]
    more = evidence.differences_total - len(lines)
    return [*lines, f"… and {more} more"] if more else lines


def _differing(report: Report) -> tuple[DifferingPath, ...]:
    return tuple(
        DifferingPath(
            path=shown(one.path),
            kinds=tuple(str(kind) for kind in one.kinds),
            golden=one.golden.sha256 if one.golden else None,
            rebuilt=one.subject.sha256 if one.subject else None,
            package=f"{one.package.name} {one.package.version}" if one.package else None,
        )
        # What is to be expected of a container is not to be expected of an image.
        for one in (*report.drift, *report.expected)[:_KEPT_DIFFERENCES]
    )


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
