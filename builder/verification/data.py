"""What came of a verification, as JSON: docs/verifying.md."""

from __future__ import annotations

from typing import Any

from builder.signing.verification import VerifiedStatement
from builder.verification.image import Verification


def verification_data(verification: Verification) -> dict[str, Any]:
    """As JSON, docs/verifying.md."""
    statement, provenance, rebuilt = verification.statement, verification.provenance, verification.reproduction
    recipe = provenance.build_definition.external_parameters.get("recipeDigest") if provenance else None
    return {
        "verified": verification.passed,
        "image": verification.image,
        "digest": verification.digest,
        "checks": [{"name": one.name, "passed": one.passed, "detail": one.detail} for one in verification.checks],
        "trust": {
            "source": verification.trust.source,
            "fromServer": verification.trust.from_server,
            "identity": verification.trust.identity,
            "issuer": verification.trust.issuer,
            "rebuilder": verification.trust.rebuilder,
        },
        "sandbox": statement.sandbox if statement else None,
        "logIndex": statement.log_index if statement else None,
        "integratedTime": _time_data(statement),
        "builderId": provenance.run_details.builder.id if provenance else None,
        "recipeDigest": recipe if isinstance(recipe, str) else None,
        "reproduction": {
            "identity": rebuilt.signed.identity,
            "logIndex": rebuilt.signed.log_index,
            "integratedTime": _time_data(rebuilt.signed),
            "bitForBit": rebuilt.bit_for_bit,
        }
        if rebuilt
        else None,
        "ignored": list(verification.ignored),
    }


def _time_data(signed: VerifiedStatement | None) -> str | None:
    return signed.integrated_time.isoformat() if signed and signed.integrated_time else None
