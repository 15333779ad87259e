"""What the stages hand on and the record keeps: each stage's findings, typed."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from builder.engine.trial import TestResult
from builder.forensics.report import Told, Totals
from builder.forensics.subjects.subject import SubjectKind
from builder.image.layer import Compression
from builder.planning.lock import Lock
from builder.policy.facts import Account, Update
from builder.policy.verdict import Verdict
from builder.scanning.findings import DatabaseIdentity, Findings, ScannerIdentity


class _Evidence(BaseModel):
    model_config = ConfigDict(frozen=True)


class StagedImage(_Evidence):
    """The image as the build worker staged it. Sizes in bytes; `inventory_root` is the inventory's Merkle root."""

    manifest_digest: str
    manifest_size: int
    config_digest: str
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]
    compression: Compression
    compressed_size: int
    inventory_digest: str
    inventory_root: str
    paths: int
    packages: int
    architecture: str


class BuildEvidence(_Evidence):
    """`lock_given` says that the request brought the lock; `materials_digest` is of the artifact that keeps every input
    beside the image; `build_key` stands for all that decided it.

    `base_epoch` (UTC seconds) is of the newest content of the base; `updates` are pending ones of the distribution, and
    `reproduced` tells whether a second assembly gave the same digest: both None where no policy asked.
    """

    lock: Lock
    lock_digest: str
    lock_given: bool
    build_key: str
    materials_digest: str
    image: StagedImage
    tests: tuple[TestResult, ...]
    engine: str
    hermetic: bool
    accounts: tuple[Account, ...] | None = None
    base_epoch: int | None = None
    updates: tuple[Update, ...] | None = None
    reproduced: bool | None = None


class ScanEvidence(_Evidence):
    """The scan, without its report: that is an attachment. `seconds` is how long it took from `started_at` on."""

    scanner: ScannerIdentity
    database: DatabaseIdentity
    findings: Findings
    verdict: Verdict
    report_digest: str
    cyclonedx_digest: str
    spdx_digest: str
    sarif_digest: str | None = None
    started_at: AwareDatetime | None = None
    seconds: float | None = None


class ReleaseEvidence(_Evidence):
    """Who signed, where it is logged, and where everything was published. `attestations` are the bundles' digests by
    predicate type, the provenance's among them."""

    identity: str
    issuer: str
    log_index: int
    sandbox: bool
    repository: str
    tags: tuple[str, ...]
    provenance_digest: str
    referrers: dict[str, str]
    attestations: dict[str, str] = {}


class Matched(_Evidence):
    """What of a rebuilt image is equal. `diff_ids`: the original's layers, unpacked, are what the config names."""

    manifest: bool
    config: bool
    diff_ids: bool
    inventory: bool


class DifferingPath(_Evidence):
    """A path of a rebuilt image that is not as it was released; `golden` and `rebuilt` are sha256 of contents."""

    path: str
    kinds: tuple[str, ...]
    golden: str | None
    rebuilt: str | None
    package: str | None


class Attestation(_Evidence):
    """Who signed an attestation, where it is logged, and its referrer's digest in the registry."""

    identity: str
    issuer: str
    log_index: int
    sandbox: bool
    referrer: str


class RebuildEvidence(_Evidence):
    """How a rebuild compares. `sources` counts packages by where they came from; `differences` are the first of all."""

    image_digest: str
    rebuilt_digest: str
    matched: Matched
    compression_then: Compression | None
    compression_now: Compression
    paths: int
    differences: tuple[DifferingPath, ...]
    differences_total: int
    offline: bool = False
    sources: dict[str, int] = {}
    attestation: Attestation | None = None

    @property
    def reproduced(self) -> bool:
        """The same bytes, or the same content where a newer library compresses it otherwise."""
        matched = self.matched
        return matched.inventory and (matched.manifest or (matched.config and matched.diff_ids))


class ComparedSubject(_Evidence):
    """What was asked to be compared: an image of this service's registry, or what was uploaded and has this digest.

    `name` is an image's reference, or what the uploader called it. `size` is in bytes, of an upload.
    """

    kind: SubjectKind
    digest: str
    name: str | None = None
    size: int | None = None


class ComparisonEvidence(_Evidence):
    """What a comparison came to. `name` is the subject's in the report, `record` the number of the ledger's record."""

    verdict: Told
    complete: bool
    name: str
    totals: Totals
    inventory_digest: str
    report_digest: str
    record: int


class Unchanged(_Evidence):
    """The release that answers a request whose inputs are the same."""

    build_id: str
    digest: str


class PlannedPackage(_Evidence):
    """A package that a build would install. `source` is cache, registry, archive or unknown; `size` in bytes."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    bootstrap: bool
    source: str


class Plan(_Evidence):
    """What a build would do. `builds_first` are recipes whose release it would wait for: then no more is known."""

    hermetic: bool
    builds_first: tuple[str, ...] = ()
    base: str | None = None
    base_cached: bool = False
    packages: tuple[PlannedPackage, ...] = ()
    fetch_bytes: int = 0
    files: tuple[str, ...] = ()
    lock_digest: str | None = None
    lock_given: bool = False
    unchanged: Unchanged | None = None


def kept(model: BaseModel) -> dict[str, Any]:
    """As JSON for the database."""
    return model.model_dump(mode="json")
