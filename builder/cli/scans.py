"""The scan report that was kept of a release, held against the digest that its provenance was signed with."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from builder.cli.evidence import Evidence, evidence_of
from builder.errors import GoldsmithError
from builder.forensics.diff import ScanTold
from builder.forensics.scans import Scan
from builder.image.digests import digest_of
from builder.scanning.errors import ScanReportInvalid
from builder.scanning.report import read_report
from builder.signing.slsa import Provenance, ResourceDescriptor

if TYPE_CHECKING:
    from builder.cli.invocation import Invocation


class _Annotations(BaseModel):
    """What the provenance says of the scan, builder.pipeline.provenance."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    scanner: str | None = None
    database_updated: datetime | None = None
    sample_database: bool | None = None


def kept_scan(invocation: Invocation, evidence: Evidence, provenance: Provenance) -> Scan | str:
    """The report, or why there is none. What is not the signed digest's is not looked at, wherever it came from."""
    signed = _signed(provenance)
    try:
        found = _reports(invocation, evidence, signed is not None)
    except GoldsmithError as error:
        return f"the scan report of {evidence.image} could not be had: {error.detail}"
    if signed is not None:
        wanted = f"sha256:{(signed.digest or {})['sha256']}"
        matching = [one for one in found if digest_of(one) == wanted]
        if not matching:
            others = f", only {len(found)} other" if found else ""
            return f"the scan report of {evidence.image}, signed as {wanted}, is not kept{others}"
        return _read(matching[0], evidence, signed)
    if len(found) != 1:
        return f"of {evidence.image} no scan report is signed, and {len(found) or 'none'} kept"
    return _read(found[0], evidence, None)


def _reports(invocation: Invocation, evidence: Evidence, signed: bool) -> tuple[bytes, ...]:
    """Those beside the image. Where there is none the API is asked, if a signature says which report is the one."""
    found = evidence.scans()
    if found or not signed or evidence.manifest_from is None:
        return found
    with evidence_of(invocation, evidence.digest, None) as api:
        return api.scans()


def _signed(provenance: Provenance) -> ResourceDescriptor | None:
    made = provenance.run_details.byproducts
    return next((one for one in made if one.name == "scan" and "sha256" in (one.digest or {})), None)


def _read(content: bytes, evidence: Evidence, signed: ResourceDescriptor | None) -> Scan | str:
    try:
        report = read_report(content, evidence.digest)
        told = _Annotations.model_validate((signed.annotations if signed else None) or {})
    except ScanReportInvalid as error:
        return f"the scan report of {evidence.image} cannot be read: {error.detail}"
    except ValidationError:
        return f"what the provenance of {evidence.image} says of its scan cannot be read"
    return Scan(
        report.findings.vulnerabilities,
        ScanTold(
            digest=digest_of(content),
            signed=signed is not None,
            scanner=told.scanner,
            database_updated=told.database_updated,
            sample_database=told.sample_database,
        ),
    )
