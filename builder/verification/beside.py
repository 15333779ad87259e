"""What is signed beside the provenance, once it has been verified: what each says, and whether it agrees with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from builder.signing.references import References
from builder.signing.slsa import Provenance, ResourceDescriptor
from builder.signing.statement import (
    COSIGN_SIGNATURE,
    CYCLONEDX_BOM,
    REFERENCE,
    TEST_RESULT,
    VERIFICATION_SUMMARY,
    VULNERABILITIES,
)
from builder.signing.tested import TestRun
from builder.signing.verification import VerifiedStatement
from builder.signing.vsa import VerificationSummary
from builder.signing.vulns import VulnerabilityScan
from builder.verification.check import Check

_EPOCH = datetime.fromtimestamp(0, UTC)
_ROOT = "merkleRoot"


def told_beside(
    verified: Sequence[VerifiedStatement], provenance: Provenance, required: Sequence[str] = ()
) -> list[Check]:
    """Of each kind the newest. One that is not there is told only where it is `required`: releases of earlier versions
    have fewer."""
    found: list[Check] = []
    for name, (kind, read) in KINDS.items():
        signed = newest_of(verified, kind)
        if signed is not None:
            holds, detail = read(signed, provenance)
            found.append(Check(name, holds, f"{detail}, log entry {signed.log_index}" if holds else detail))
        elif name in required:
            found.append(Check(name, False, f"no {kind} that holds is attached"))
    return found


def _signature(_: VerifiedStatement, __: Provenance) -> tuple[bool, str]:
    return True, "of the image, in the form of cosign"


def _tests(signed: VerifiedStatement, _: Provenance) -> tuple[bool, str]:
    try:
        told = TestRun.model_validate(signed.statement.predicate)
    except ValidationError:
        return False, "the signed test result is not an in-toto test result v0.1 that passed"
    number = len(told.passed_tests)
    return True, f"{number} test{'' if number == 1 else 's'} of the recipe passed"


def _scan(signed: VerifiedStatement, _: Provenance) -> tuple[bool, str]:
    try:
        told = VulnerabilityScan.model_validate(signed.statement.predicate)
    except ValidationError:
        return False, "the signed scan is not an in-toto vulnerability predicate v0.1"
    number, database = len(told.scanner.result), told.scanner.db
    return True, (
        f"{number} known {'vulnerability' if number == 1 else 'vulnerabilities'}, version {told.scanner.version}, "
        f"database of {database.last_update:%Y-%m-%d %H:%M} UTC, {database.version}"
    )


def _gate(signed: VerifiedStatement, _: Provenance) -> tuple[bool, str]:
    try:
        if "verificationResult" not in signed.statement.predicate:
            return False, "the signed verdict does not say that it passed"
        told = VerificationSummary.model_validate(signed.statement.predicate)
    except ValidationError:
        return False, "the signed verdict is not a SLSA Verification Summary v1 that passed"
    return True, (
        f"{told.verification_result} at {told.time_verified:%Y-%m-%d %H:%M:%S} UTC, policy {told.policy.uri} "
        f"sha256:{(told.policy.digest or {}).get('sha256', '?')}"
    )


def _sbom(signed: VerifiedStatement, _: Provenance) -> tuple[bool, str]:
    told = signed.statement.predicate
    components = told.get("components")
    if told.get("bomFormat") != "CycloneDX" or not isinstance(components, list):
        return False, "the signed bill of materials is no CycloneDX document"
    return True, f"CycloneDX {told.get('specVersion')}, {len(components)} components"


def _references(signed: VerifiedStatement, provenance: Provenance) -> tuple[bool, str]:
    """What both name by digest must be the same, and the inventory's Merkle root too."""
    try:
        told = References.model_validate(signed.statement.predicate)
    except ValidationError:
        return False, "the signed references are not an in-toto reference predicate v0.1"
    made = {one.name: one for one in provenance.run_details.byproducts}
    for one in told.references:
        other = made.get(one.name)
        if other is not None and (one.digest != other.digest or _root(one) != _root(other)):
            return False, f"the signed references name another {one.name} than the provenance"
    return True, f"{', '.join(str(one.name) for one in told.references)}: as in the provenance"


def _root(one: ResourceDescriptor) -> object:
    return (one.annotations or {}).get(_ROOT)


# The check's name, the predicate's type, and who reads it.
KINDS: dict[str, tuple[str, Callable[[VerifiedStatement, Provenance], tuple[bool, str]]]] = {
    "signature": (COSIGN_SIGNATURE, _signature),
    "tests": (TEST_RESULT, _tests),
    "scan": (VULNERABILITIES, _scan),
    "gate": (VERIFICATION_SUMMARY, _gate),
    "sbom": (CYCLONEDX_BOM, _sbom),
    "references": (REFERENCE, _references),
}


def newest_of(verified: Sequence[VerifiedStatement], kind: str) -> VerifiedStatement | None:
    those = [one for one in verified if one.statement.predicate_type == kind]
    return max(those, key=lambda one: (one.integrated_time or _EPOCH, one.log_index), default=None)
