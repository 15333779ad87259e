"""Is a rebuilt image the one that was released? What matched, what differs, and the predicate that attests it.

docs/formats/reproduction.md describes the predicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from builder import __version__
from builder.forensics.compare import compare
from builder.forensics.findings import Difference, Finding, Kind, Outcome, Severity
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
        found = compare(records, (record.entry for record in rebuilt), judge=_unweighed, keep=_KEPT_DIFFERENCES)
    now = composed.layer.compression if composed.layer else Compression()
    return RebuildEvidence(
        image_digest=digest,
        rebuilt_digest=composed.manifest_digest,
        matched=Matched(
            manifest=composed.manifest_digest == digest,
            config=composed.manifest.config.digest == original.config.digest,
            diff_ids=diff_ids,
            inventory=not found.findings_total,
        ),
        compression_then=then,
        compression_now=now,
        paths=found.golden_entries,
        differences=_differing(found),
        differences_total=found.findings_total,
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


def _unweighed(difference: Difference) -> Finding:
    """What is to be expected of a container, or harmless in one, is neither in an image."""
    return Finding(difference, Severity.INFO, rule="rebuilt", reason="it differs in the rebuilt image")


def _differing(found: Outcome) -> tuple[DifferingPath, ...]:
    return tuple(
        DifferingPath(
            path=shown(one.path),
            kinds=tuple(_kind(kind, one) for kind in one.kinds),
            golden=one.golden.sha256 if one.golden else None,
            rebuilt=one.subject.sha256 if one.subject else None,
            package=f"{one.package.name} {one.package.version}" if one.package else None,
        )
        for one in (finding.difference for finding in found.findings)
    )


def _kind(kind: Kind, one: Difference) -> str:
    return f"moved from {shown(one.moved_from)}" if kind is Kind.MOVED and one.moved_from else str(kind)


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
