"""What the signed scan and the signed verdict beside an image say, once they have been verified."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from builder.signing.statement import VERIFICATION_SUMMARY, VULNERABILITIES
from builder.signing.verification import VerifiedStatement
from builder.signing.vsa import VerificationSummary
from builder.signing.vulns import VulnerabilityScan

_EPOCH = datetime.fromtimestamp(0, UTC)


def told_scan_and_gate(verified: Sequence[VerifiedStatement]) -> list[tuple[str, bool, str]]:
    """Name, whether it holds, and what it says, of the newest of each. A release of an older version has neither."""
    found = []
    scan, gate = _newest(verified, VULNERABILITIES), _newest(verified, VERIFICATION_SUMMARY)
    if scan is not None:
        found.append(("scan", *_scan(scan)))
    if gate is not None:
        found.append(("gate", *_gate(gate)))
    return found


def _scan(signed: VerifiedStatement) -> tuple[bool, str]:
    try:
        told = VulnerabilityScan.model_validate(signed.statement.predicate)
    except ValidationError:
        return False, "the signed scan is not an in-toto vulnerability predicate v0.1"
    number, database = len(told.scanner.result), told.scanner.db
    return True, (
        f"{number} known {'vulnerability' if number == 1 else 'vulnerabilities'}, version {told.scanner.version}, "
        f"database of {database.last_update:%Y-%m-%d %H:%M} UTC, {database.version}, log entry {signed.log_index}"
    )


def _gate(signed: VerifiedStatement) -> tuple[bool, str]:
    try:
        told = VerificationSummary.model_validate(signed.statement.predicate)
    except ValidationError:
        return False, "the signed verdict is not a SLSA Verification Summary v1 that passed"
    return True, (
        f"{told.verification_result} at {told.time_verified:%Y-%m-%d %H:%M:%S} UTC, policy {told.policy.uri} "
        f"sha256:{(told.policy.digest or {}).get('sha256', '?')}, log entry {signed.log_index}"
    )


def _newest(verified: Sequence[VerifiedStatement], kind: str) -> VerifiedStatement | None:
    those = [one for one in verified if one.statement.predicate_type == kind]
    return max(those, key=lambda one: (one.integrated_time or _EPOCH, one.log_index), default=None)
