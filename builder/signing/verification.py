"""Verify a signed statement: offline, against a trusted root, for one identity, one subject and one kind of predicate.

sigstore verifies certificates, log evidence and the signature. What the signature is *about* is for its caller to
check, and is checked here: the payload's type, the statement's form, its predicate type and its subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.x509 import Certificate
from pydantic import TypeAdapter, ValidationError
from sigstore.errors import VerificationError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity
from sigstore_models.bundle.v1 import Bundle as BundleFields

from builder.errors import Rejected
from builder.sandbox.marking import issued_by_sandbox
from builder.signing.statement import PAYLOAD_TYPE, Digest, Statement
from builder.signing.trust import Trust
from builder.signing.trust import trusted_root as load_trusted_root
from builder.signing.validity import root_at, signed_at

MAX_BUNDLE = 64 * 1024 * 1024
_DIGEST: TypeAdapter[str] = TypeAdapter(Digest)


class VerificationFailed(Rejected):
    """The bundle proves nothing. Its subclasses name the commonest reasons."""

    slug = "verification-failed"
    title = "The signature does not verify"


class BundleMalformed(VerificationFailed):
    slug = "bundle-malformed"
    title = "The signature bundle cannot be read"


class IdentityMismatch(VerificationFailed):
    slug = "identity-mismatch"
    title = "The signature was made by another identity"


class StatementMalformed(VerificationFailed):
    slug = "statement-malformed"
    title = "What was signed is not an in-toto statement"


class PredicateMismatch(VerificationFailed):
    slug = "predicate-mismatch"
    title = "The statement is of another kind"


class SubjectMismatch(VerificationFailed):
    slug = "subject-mismatch"
    title = "The statement is about something else"


@dataclass(frozen=True)
class VerifiedStatement:
    """A statement, who made it and where that is on record.

    `integrated_time` is when the log says it took the entry, in UTC; None from a log that gives no signed time.
    """

    statement: Statement
    identity: str
    issuer: str
    log_index: int
    integrated_time: datetime | None
    sandbox: bool


def verify_bundle(
    bundle: bytes,
    *,
    trusted_root: TrustedRoot | Trust,
    identity: str,
    issuer: str,
    digest: str,
    predicate_type: str | None = None,
) -> VerifiedStatement:
    """Verify a Sigstore bundle (JSON) and return the statement in it. Nothing is sent anywhere.

    `identity` and `issuer` are compared exactly with the certificate's; `digest` is `sha256:<hex>` of the subject;
    without a `predicate_type` any is accepted, and the caller has to look at it.

    Raises VerificationFailed, or TrustInvalid for a trusted root that cannot be read.
    """
    root = trusted_root if isinstance(trusted_root, TrustedRoot) else load_trusted_root(trusted_root)
    parsed, fields = _parse(bundle)
    try:
        then = root_at(root, signed_at(parsed, fields))
        payload_type, payload = Verifier(trusted_root=then).verify_dsse(parsed, _ExactIdentity(identity, issuer))
    except VerificationFailed:
        raise
    except Exception as error:
        # Malformed input surfaces as whatever it broke: anything but success means "not verified".
        reason = str(error) or type(error).__name__
        raise VerificationFailed(
            f"the bundle does not verify: {reason}", hint="it was altered, or signed by an instance not trusted here"
        ) from error
    statement = _statement(payload_type, payload)
    _require_predicate(statement, predicate_type)
    _require_subject(statement, digest)
    _require_tree_size(fields)

    entry = fields.verification_material.tlog_entries[0]
    # The promise signs index and time; without it, only the inclusion proof's index has been verified.
    promised = entry.inclusion_promise is not None and entry.integrated_time is not None
    return VerifiedStatement(
        statement=statement,
        identity=identity,
        issuer=issuer,
        log_index=entry.log_index if promised else entry.inclusion_proof.log_index,
        integrated_time=datetime.fromtimestamp(entry.integrated_time or 0, UTC) if promised else None,
        sandbox=issued_by_sandbox(parsed.signing_certificate),
    )


class _ExactIdentity:
    """sigstore's own identity policy, with an error that says it was the identity."""

    def __init__(self, identity: str, issuer: str) -> None:
        self._identity = identity
        self._issuer = issuer

    def verify(self, cert: Certificate) -> None:
        if not self._identity or not self._issuer:
            # sigstore takes an empty issuer for "any issuer".
            raise IdentityMismatch("an identity and an issuer must be given to verify against")
        try:
            Identity(identity=self._identity, issuer=self._issuer).verify(cert)
        except VerificationError as error:
            raise IdentityMismatch(
                f"not signed by {self._identity} of {self._issuer}: {error}",
                hint="check which identity the release worker signs with",
            ) from error


def _parse(bundle: bytes) -> tuple[Bundle, BundleFields]:
    if len(bundle) > MAX_BUNDLE:
        raise BundleMalformed(f"the bundle has {len(bundle)} bytes; {MAX_BUNDLE} are allowed")
    what = "not a Sigstore bundle with a certificate and a log entry"
    try:
        fields = BundleFields.from_json(bundle)
        return Bundle.from_json(bundle), fields
    except ValidationError as error:
        raise BundleMalformed(f"{what}: {_first_fault(error, 'bundle')}") from error
    except Exception as error:
        raise BundleMalformed(f"{what}: {(str(error) or type(error).__name__).splitlines()[0]}") from error


def _statement(payload_type: str, payload: bytes) -> Statement:
    if payload_type != PAYLOAD_TYPE:
        raise StatementMalformed(f"the payload is of type {payload_type!r}, not {PAYLOAD_TYPE}")
    try:
        return Statement.model_validate_json(payload)
    except ValidationError as error:
        raise StatementMalformed(f"not an in-toto Statement v1: {_first_fault(error, 'statement')}") from error


def _first_fault(error: ValidationError, whole: str) -> str:
    fault = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or whole}: {fault['msg']}"


def _require_tree_size(fields: BundleFields) -> None:
    """sigstore counts the proof's hashes by a size that nobody signed, and an index beside it: another pair of both may
    lead to the same root. The checkpoint, which it has verified, has the size in its second line."""
    for entry in fields.verification_material.tlog_entries:
        checkpoint = entry.inclusion_proof.checkpoint
        signed = checkpoint.envelope.split("\n")[1] if checkpoint else "none"
        told = entry.inclusion_proof.tree_size
        if signed != str(told):
            raise VerificationFailed(f"the inclusion proof has the treeSize {told}; the checkpoint signs {signed}")


def _require_predicate(statement: Statement, predicate_type: str | None) -> None:
    if predicate_type is not None and statement.predicate_type != predicate_type:
        raise PredicateMismatch(f"the predicate is of type {statement.predicate_type}, not {predicate_type}")


def _require_subject(statement: Statement, digest: str) -> None:
    try:
        _DIGEST.validate_python(digest)
    except ValidationError as error:
        raise SubjectMismatch(f"{digest!r} is not a digest", hint="write sha256: and 64 hexadecimal digits") from error
    if not statement.speaks_of(digest):
        named = ", ".join(f"{subject.name} {subject.sha256}" for subject in statement.subject[:3])
        raise SubjectMismatch(f"the statement does not speak of {digest}, but of {named}")
