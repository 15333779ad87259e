"""Verify an image: every check told, and one that fails is enough to refuse."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import rfc8785
from pydantic import ValidationError

from builder.cli.bundles import told_predicate_type
from builder.cli.evidence import Bundles, Evidence
from builder.cli.gated import told_beside
from builder.cli.reproduced import Reproduction, reproductions_of
from builder.cli.trusting import Trusted
from builder.signing.slsa import Provenance
from builder.signing.statement import REPRODUCTION, SLSA_PROVENANCE
from builder.signing.verification import (
    IdentityMismatch,
    PredicateMismatch,
    SubjectMismatch,
    VerificationFailed,
    VerifiedStatement,
    verify_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED_CHECK = {
    IdentityMismatch: "signature identity",
    SubjectMismatch: "subject digest",
    PredicateMismatch: "predicate type",
}
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """`statement` and `provenance` are there when the signature verifies; believe them only if it `passed`.

    `ignored` says why other bundles beside the image were not counted.
    """

    image: str
    digest: str
    trust: Trusted
    checks: tuple[Check, ...]
    statement: VerifiedStatement | None = None
    provenance: Provenance | None = None
    ignored: tuple[str, ...] = ()
    reproduction: Reproduction | None = None

    @property
    def passed(self) -> bool:
        return self.provenance is not None and all(check.passed for check in self.checks)


def verify_image(evidence: Evidence, trust: Trusted, required: Sequence[str] = ()) -> Verification:
    """Verify the SLSA provenance of an image and what is signed beside it. What cannot be had raises; what does not
    verify is a failed check, and so is what is `required`, by its name in `KINDS`, and not there."""
    checks = []
    if evidence.manifest_from is not None:
        checks.append(
            Check("manifest digest", True, f"{evidence.digest}, computed from what {evidence.manifest_from} gave")
        )
    bundles = evidence.bundles()
    # What a bundle says it is decides only who must have signed it.
    rebuilders = [one for one in bundles.found if told_predicate_type(one) == REPRODUCTION]
    signers = [one for one in bundles.found if told_predicate_type(one) != REPRODUCTION]
    verified, refusals = _verify_all(signers, evidence.digest, trust)
    reproductions, disbelieved = reproductions_of(rebuilders, evidence.digest, trust)
    proofs = [one for one in verified if one.statement.predicate_type == SLSA_PROVENANCE]
    ignored = tuple(str(refusal) for refusal in refusals) + bundles.unreadable + disbelieved
    if not proofs:
        checks += _why_none(evidence, bundles, verified, refusals)
        return Verification(evidence.image, evidence.digest, trust, tuple(checks), ignored=disbelieved)
    newest = max(proofs, key=lambda one: (one.integrated_time or _EPOCH, one.log_index))
    checks += _signature_checks(newest, evidence.digest)
    try:
        provenance = Provenance.model_validate(newest.statement.predicate)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        checks.append(Check("provenance", False, f"not SLSA Provenance v1: {place}: {fault['msg']}"))
        return Verification(evidence.image, evidence.digest, trust, tuple(checks), newest, ignored=ignored)
    checks += [Check("builder id", True, provenance.run_details.builder.id), _recipe_check(provenance)]
    checks += [Check(*told) for told in told_beside(verified, provenance, required)]
    reproduction = reproductions[0] if reproductions else None
    if reproduction is not None:
        checks.append(Check("reproduced", True, str(reproduction)))
    elif trust.reproduced:
        # That there is none is a failure only for whoever asked for it.
        checks.append(Check("reproduced", False, f"no attestation of {trust.rebuilder} that holds is attached"))
    return Verification(
        evidence.image, evidence.digest, trust, tuple(checks), newest, provenance, ignored, reproduction
    )


def verification_data(verification: Verification) -> dict[str, Any]:
    """As JSON, docs/cli.md."""
    statement, provenance, rebuilt = verification.statement, verification.provenance, verification.reproduction
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
        "recipeDigest": _recipe_digest(provenance) if provenance else None,
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


def _verify_all(
    bundles: Sequence[bytes], digest: str, trust: Trusted
) -> tuple[list[VerifiedStatement], list[VerificationFailed]]:
    verified: list[VerifiedStatement] = []
    refusals: list[VerificationFailed] = []
    for bundle in bundles:
        try:
            verified.append(
                verify_bundle(
                    bundle, trusted_root=trust.root, identity=trust.identity, issuer=trust.issuer, digest=digest
                )
            )
        except VerificationFailed as error:
            refusals.append(error)
    return verified, refusals


def _why_none(
    evidence: Evidence,
    bundles: Bundles,
    verified: Sequence[VerifiedStatement],
    refusals: Sequence[VerificationFailed],
) -> list[Check]:
    checks = [Check(_FAILED_CHECK.get(type(refusal), "signature"), False, str(refusal)) for refusal in refusals]
    checks += [Check("signature", False, why) for why in bundles.unreadable]
    if verified:
        kinds = ", ".join(sorted({one.statement.predicate_type for one in verified}))
        checks.append(Check("predicate type", False, f"signed are {kinds}, but no {SLSA_PROVENANCE}"))
    return checks or [Check("signature", False, f"no signature is attached to {evidence.image}")]


def _signature_checks(proof: VerifiedStatement, digest: str) -> list[Check]:
    sandbox = "SANDBOX, no real Sigstore: " if proof.sandbox else ""
    time = f"at {proof.integrated_time:%Y-%m-%d %H:%M:%S} UTC" if proof.integrated_time else "without a signed time"
    return [
        Check("signature identity", True, f"{sandbox}{proof.identity} (issuer {proof.issuer})"),
        Check("log inclusion", True, f"entry {proof.log_index}, {time}"),
        Check("predicate type", True, proof.statement.predicate_type),
        Check("subject digest", True, digest),
    ]


def _recipe_check(provenance: Provenance) -> Check:
    """The provenance quotes the recipe whole: its digest is computed, not believed."""
    told = _recipe_digest(provenance)
    recipe = provenance.build_definition.external_parameters.get("recipe")
    if told is None or not isinstance(recipe, dict):
        return Check("recipe digest", False, "the provenance names no recipe: not made by Goldsmith")
    try:
        computed = "sha256:" + hashlib.sha256(rfc8785.dumps(recipe)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        return Check("recipe digest", False, f"the recipe has no canonical form: {error}")
    if computed != told:
        return Check("recipe digest", False, f"{told} is told, but the recipe that is quoted has {computed}")
    return Check("recipe digest", True, told)


def _recipe_digest(provenance: Provenance) -> str | None:
    told = provenance.build_definition.external_parameters.get("recipeDigest")
    return told if isinstance(told, str) else None
