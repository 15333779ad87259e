"""What a released image has in it, noted so that auditors can ask the other way round: which images have this?"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from builder.pipeline.evidence import ScanEvidence
from builder.store import attachments, components, findings
from builder.store.attachments import Kind
from builder.store.findings import Seen, Stored
from builder.store.schema import Release


def index_release(session: Session, release: Release, scan: dict[str, Any]) -> None:
    """`scan` is the evidence of the scan stage, whose documents are attached to the release's build."""
    scanned = ScanEvidence.model_validate(scan)
    cyclonedx = attachments.find(session, release.build_id, Kind.CYCLONEDX)
    assert cyclonedx is not None, "nothing is released without one"
    components.index_image(session, release.digest, components.contained(attachments.content(session, cyclonedx)))
    _note_findings(session, release, scanned)


def _note_findings(session: Session, release: Release, scanned: ScanEvidence) -> None:
    """What the gate let pass, with the exceptions that it rested on."""
    excepted = {(one.vulnerability, one.package): one.exception for one in scanned.verdict.excepted}
    seen = [
        Seen(
            vulnerability=one.id, package=one.package, installed=one.installed, fixed=one.fixed, severity=one.severity,
            purl=one.purl, above_policy=False, exception=excepted.get((one.id, one.package)),
        )
        for one in scanned.findings.vulnerabilities
    ]  # fmt: skip
    image = Stored(
        digest=release.digest, build_id=release.build_id, recipe_name=release.recipe_name,
        repository=release.repository, released_at=release.released_at, sbom_digest=scanned.cyclonedx_digest,
        judged_by=None,
    )  # fmt: skip
    findings.note(session, image, seen, frozenset(one.key for one in seen), scanned.database.digest)
