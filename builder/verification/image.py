"""Verify an image: every check told, and one that fails is enough to refuse."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import rfc8785
from pydantic import ValidationError

from builder.image.digests import digest_of
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
from builder.verification.beside import told_beside
from builder.verification.check import Check
from builder.verification.evidence import Bundles, Evidence
from builder.verification.expected import Expected, expectations
from builder.verification.quoted import told_predicate_type
from builder.verification.recorded import recorded
from builder.verification.reproduced import Reproduction, reproductions_of
from builder.verification.trust import Trusted

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED_CHECK = {
    IdentityMismatch: "signature identity",
    SubjectMismatch: "subject digest",
    PredicateMismatch: "predicate type",
}
_EPOCH = datetime.fromtimestamp(0, UTC)


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


def verify_image(evidence: Evidence, trust: Trusted, expected: Expected | None = None) -> Verification:
    """Verify the SLSA provenance of an image, what is signed beside it, and what is `expected` of both.

    What cannot be had raises; what does not verify, or is not as expected, is a failed check.
    """
    expected = expected or Expected()
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
    proofs = [one for one in verified if one.signed.statement.predicate_type == SLSA_PROVENANCE]
    ignored = tuple(str(refusal) for refusal in refusals) + bundles.unreadable + disbelieved
    if not proofs:
        checks += _why_none(evidence, bundles, [one.signed for one in verified], refusals)
        return Verification(evidence.image, evidence.digest, trust, tuple(checks), ignored=disbelieved)
    newest = max((one.signed for one in proofs), key=lambda one: (one.integrated_time or _EPOCH, one.log_index))
    checks += _signature_checks(newest, evidence.digest)
    try:
        provenance = Provenance.model_validate(newest.statement.predicate)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        checks.append(Check("provenance", False, f"not SLSA Provenance v1: {place}: {fault['msg']}"))
        return Verification(evidence.image, evidence.digest, trust, tuple(checks), newest, ignored=ignored)
    checks += [Check("builder id", True, provenance.run_details.builder.id), _recipe_check(provenance)]
    beside = [one.signed for one in verified]
    checks += told_beside(beside, provenance, expected.required)
    documents = evidence.documents()
    if documents:
        checks.append(_documents_check(documents, provenance))
    rebuilt = [one.signed for one in reproductions]
    checks += expectations(expected, newest, provenance, [*beside, *rebuilt])
    if trust.ledger_keys or trust.recorded:
        found = evidence.ledger()
        if found is not None or trust.recorded:
            # Of the provenance that was judged, and no other; the same log entry may be there in two writings.
            same = [one.bundle for one in proofs if one.signed == newest]
            digests = {digest_of(bundle) for bundle in same}
            checks.append(recorded(found, evidence.digest, digests, trust.ledger_keys))
    reproduction = reproductions[0] if reproductions else None
    if reproduction is not None:
        checks.append(Check("reproduced", True, str(reproduction)))
    elif trust.reproduced:
        # That there is none is a failure only for whoever asked for it.
        checks.append(Check("reproduced", False, f"no attestation of {trust.rebuilder} that holds is attached"))
    return Verification(
        evidence.image, evidence.digest, trust, tuple(checks), newest, provenance, ignored, reproduction
    )


@dataclass(frozen=True)
class _Verified:
    bundle: bytes
    signed: VerifiedStatement


def _verify_all(
    bundles: Sequence[bytes], digest: str, trust: Trusted
) -> tuple[list[_Verified], list[VerificationFailed]]:
    verified: list[_Verified] = []
    refusals: list[VerificationFailed] = []
    for bundle in bundles:
        try:
            verified.append(_Verified(bundle, _verify(bundle, digest, trust)))
        except VerificationFailed as error:
            refusals.append(error)
    return verified, refusals


def _verify(bundle: bytes, digest: str, trust: Trusted) -> VerifiedStatement:
    """By any of those whose signature is accepted. Raises VerificationFailed, for the last of them."""
    *others, last = trust.signatories
    for one in others:
        try:
            return verify_bundle(
                bundle, trusted_root=trust.root, identity=one.identity, issuer=one.issuer, digest=digest
            )
        except IdentityMismatch:
            continue
    return verify_bundle(bundle, trusted_root=trust.root, identity=last.identity, issuer=last.issuer, digest=digest)


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


def _documents_check(documents: dict[str, str], provenance: Provenance) -> Check:
    """What came with the bundles is what the build made. That not all of it is there, is no fault."""
    made = {one.name: one.digest or {} for one in provenance.run_details.byproducts}
    same = []
    for name, digest in documents.items():
        told = made.get(name)
        if told is None:
            return Check("documents", False, f"{name} came along, and the provenance does not name it")
        if f"sha256:{told.get('sha256')}" != digest:
            return Check("documents", False, f"{name} is {digest}; the provenance names sha256:{told.get('sha256')}")
        same.append(name)
    return Check("documents", True, f"{', '.join(same)}: as in the provenance")


def _recipe_check(provenance: Provenance) -> Check:
    """The provenance quotes the recipe whole: its digest is computed, not believed."""
    told = provenance.build_definition.external_parameters.get("recipeDigest")
    recipe = provenance.build_definition.external_parameters.get("recipe")
    if not isinstance(told, str) or not isinstance(recipe, dict):
        return Check("recipe digest", False, "the provenance names no recipe: not made by Goldsmith")
    try:
        computed = "sha256:" + hashlib.sha256(rfc8785.dumps(recipe)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        return Check("recipe digest", False, f"the recipe has no canonical form: {error}")
    if computed != told:
        return Check("recipe digest", False, f"{told} is told, but the recipe that is quoted has {computed}")
    return Check("recipe digest", True, told)
