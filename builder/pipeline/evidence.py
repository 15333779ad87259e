"""What the stages hand on and the record keeps: each stage's findings, typed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from builder.engine.trial import TestResult
from builder.image.layer import Compression
from builder.planning.lock import Lock
from builder.policy.gate import Verdict
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
    lock: Lock
    image: StagedImage
    tests: tuple[TestResult, ...]
    engine: str
    hermetic: bool


class ScanEvidence(_Evidence):
    """The scan, without its report: that is an attachment."""

    scanner: ScannerIdentity
    database: DatabaseIdentity
    findings: Findings
    verdict: Verdict
    report_digest: str
    cyclonedx_digest: str
    spdx_digest: str


class ReleaseEvidence(_Evidence):
    """Who signed, where it is logged, and where everything was published."""

    identity: str
    issuer: str
    log_index: int
    sandbox: bool
    repository: str
    tags: tuple[str, ...]
    provenance_digest: str
    referrers: dict[str, str]


def kept(model: BaseModel) -> dict[str, Any]:
    """As JSON for the database."""
    return model.model_dump(mode="json")
