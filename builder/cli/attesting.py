"""The report of a comparison as a signed attestation, by whoever compares. docs/formats/comparison.md."""

from __future__ import annotations

from builder.cli.output import complain
from builder.forensics.report import PREDICATE_TYPE, Report
from builder.signing.signer import SignedBundle, Signer
from builder.signing.statement import Statement, Subject
from builder.signing.trust import Trust


def signed_report(report: Report) -> SignedBundle:
    """The report as the predicate of a statement about the golden image, signed and verified.

    The identity is the one that GOLDSMITH_IDENTITY_* name, or the ambient one. Raises what signing raises.
    """
    from builder.pipeline.services import identity_source
    from builder.settings import load_settings

    settings = load_settings()
    trust: Trust = settings.sigstore_trust_config or "public"
    signer = Signer(trust, identity_source(settings), time_limit=settings.signer_seconds)
    return signer.sign(
        Statement(
            subject=(Subject.of(report.golden.image, report.golden.digest),),
            predicateType=PREDICATE_TYPE,
            predicate=report.data(),
        )
    )


def print_signed(signed: SignedBundle) -> None:
    sandbox = "SANDBOX, no real Sigstore: " if signed.sandbox else ""
    complain(f"signed      as {sandbox}{signed.identity}, log entry {signed.log_index}")
