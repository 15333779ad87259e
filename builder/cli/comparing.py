"""A subject against its golden image: evidence verified first, then compared, then what is to be kept of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from builder.cli.evidence import Evidence
from builder.errors import GoldsmithError
from builder.forensics.comparison import Comparison, GoldenImage, compare_subject
from builder.forensics.golden import NotCompared, golden_configuration, signed_inventory
from builder.forensics.keeping import Kept, keep_evidence
from builder.forensics.report import Check, VerifiedBy
from builder.forensics.rules import load_rules
from builder.forensics.subjects.image import ImageSubject
from builder.forensics.subjects.subject import Subject, SubjectKind
from builder.image.digests import digest_of, digest_of_file
from builder.signing.slsa import Provenance
from builder.verification.image import Verification, verify_image
from builder.verification.trust import Trusted


def verified_golden(evidence: Evidence, trust: Trusted) -> GoldenImage:
    """The golden image, only if everything about it verifies. Raises NotCompared, and what fetching evidence raises."""
    provenance, by = verified_provenance(evidence, trust)
    config = evidence.config()
    unproven = () if config else ("whether its configuration is that of the image: the image's config was not at hand",)
    return GoldenImage(
        image=evidence.image,
        digest=evidence.digest,
        inventory_digest=signed_inventory(provenance, evidence.digest),
        configuration=golden_configuration(provenance, config, evidence.digest),
        configuration_digest=digest_of(config) if config else None,
        verified=by,
        unproven=unproven,
    )


def compare_with(
    evidence: Evidence, golden: GoldenImage, subject: Subject, own_rules: Path | None, directory: Path
) -> Comparison:
    """Raises RulesInvalid, InventoryMissing, InventoryInvalid, and what reading the subject raises."""
    rules = load_rules(own_rules)
    inventory = directory / "inventory"
    evidence.inventory(golden.inventory_digest, inventory)
    return compare_subject(
        golden,
        inventory,
        subject,
        rules,
        directory=directory,
        rules_digest=digest_of_file(own_rules) if own_rules is not None else None,
    )


def keep(directory: Path, comparison: Comparison, subject: Subject, evidence: Evidence) -> Kept:
    """Keep what changed, and diffs against the golden content where that can be fetched.

    Raises EvidenceDirectoryUnusable, and what reading the subject raises.
    """
    findings = comparison.outcome.findings
    with tempfile.TemporaryDirectory() as spool:
        try:
            layout = evidence.layout(Path(spool) / "image")
        except GoldsmithError as error:
            return keep_evidence(directory, findings, subject.contents, None, why_no_golden=error.detail)
        if layout is None:
            why = "the image's layers are in its registry, which was not asked"
            return keep_evidence(directory, findings, subject.contents, None, why_no_golden=why)
        golden = ImageSubject(layout, SubjectKind.IMAGE, evidence.image)
        return keep_evidence(directory, findings, subject.contents, golden.contents)


def verified_provenance(evidence: Evidence, trust: Trusted) -> tuple[Provenance, VerifiedBy]:
    """The provenance of an image, only if it verifies, and why it was believed. Raises as `verified_golden`."""
    verification = verify_image(evidence, trust)
    if not verification.passed:
        failed = "; ".join(f"{check.name}: {check.detail}" for check in verification.checks if not check.passed)
        raise NotCompared(f"the provenance of {evidence.image} does not verify: {failed}")
    assert verification.provenance is not None, "what passed has one"
    return verification.provenance, _verified_by(verification)


def _verified_by(verification: Verification) -> VerifiedBy:
    signed, trust = verification.statement, verification.trust
    assert signed is not None, "only what verified is compared with"
    return VerifiedBy(
        identity=signed.identity,
        issuer=signed.issuer,
        trust=trust.source,
        trust_from_server=trust.from_server,
        sandbox=signed.sandbox,
        log_index=signed.log_index,
        integrated_time=signed.integrated_time,
        checks=tuple(Check(name=one.name, detail=one.detail) for one in verification.checks),
    )
