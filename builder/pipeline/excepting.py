"""Exceptions, from the request to the gate: taken in, signed by who has the identity, believed when they verify.

What is signed is an in-toto statement: its predicate is the OpenVEX document, its subject the exceptions themselves, by
the digest of their canonical JSON. So whatever the gate goes by (owner, scope, expiry) stands behind the signature.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from builder.errors import Fault, GoldsmithError, Rejected
from builder.image.digests import digest_of
from builder.pipeline.attestations import signed_by_us
from builder.pipeline.services import Services
from builder.policy.exceptions import PolicyException, Reason, Source
from builder.policy.exceptions_openvex import VexStatement, canonical, document_of, read_document, usable_statements
from builder.signing.statement import OPENVEX, Statement, Subject
from builder.signing.trust import client_trust
from builder.signing.verification import VerificationFailed, verify_bundle
from builder.store import errands
from builder.store import exceptions as store
from builder.store.builds import new_build_id
from builder.store.errands import ErrandKind
from builder.store.exceptions import Indexed, Kept
from builder.store.schema import ExceptionRow, VexDocument

_LISTED = TypeAdapter(tuple[PolicyException, ...])
_TOLD_EXPIRED = timedelta(days=90)

log = logging.getLogger("goldsmith")


class ExceptionInvalid(Rejected):
    slug = "exception-invalid"
    title = "The exception cannot be made"


class ExceptionNotAllowed(Rejected):
    slug = "exception-not-allowed"
    title = "The caller may not make exceptions"
    status = 403


class Terms(BaseModel):
    """What somebody here answers for. `expires` must lie ahead, and not too far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str
    reason: Reason
    expires: datetime


@dataclass(frozen=True)
class Imported:
    """What came of a supplier's document; `left_out` says of the rest why it does not count."""

    exceptions: tuple[PolicyException, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Believed:
    """Exceptions for the gate: those that are signed as they should be, whether they have expired or not.
    `disbelieved` says why others were left aside."""

    exceptions: tuple[PolicyException, ...]
    disbelieved: tuple[str, ...] = ()


def refuse_stranger(services: Services, requester: str) -> None:
    """Raises ExceptionNotAllowed. An exception weakens the gate for everybody, so it takes more than a key."""
    if requester not in services.settings.exception_approvers:
        raise ExceptionNotAllowed(
            f"{requester} may not make exceptions here",
            hint="an operator names who may: GOLDSMITH_EXCEPTION_APPROVERS, the names of API keys",
        )


def submit_exception(services: Services, told: dict[str, Any], *, requester: str) -> PolicyException:
    """Take in one exception; it counts once it is signed. Raises ExceptionInvalid or ExceptionNotAllowed."""
    refuse_stranger(services, requester)
    now = _now()
    draft = _made({**told, "id": new_build_id(), "created": now, "source": Source.ORGANISATION})
    _refuse_expiry(services, draft.expires, now)
    document = canonical(document_of(draft))
    whole = draft.model_copy(update={"document_digest": digest_of(document)})
    _take_in(services, [whole], document, requester)
    return whole


def submit_import(
    services: Services, content: bytes, terms: Terms, scope: dict[str, str], *, requester: str
) -> Imported:
    """Take in what a supplier's OpenVEX document says of packages. `scope` may narrow it: recipe, digest.

    Raises VexInvalid, ExceptionInvalid or ExceptionNotAllowed.
    """
    refuse_stranger(services, requester)
    parsed, data = read_document(content)
    now = _now()
    _refuse_expiry(services, terms.expires, now)
    document = canonical(data)
    usable, left_out = usable_statements(parsed)
    if not usable:
        raise ExceptionInvalid(
            f"the document excuses no package: {'; '.join(left_out[:3])}",
            hint="only not_affected and fixed count, for products that are packages named by their package URL",
        )
    whole = [
        _made(
            {
                **scope, "id": new_build_id(), "vulnerability": vulnerability, "package": purl, "owner": terms.owner,
                "reason": _reason(terms.reason, parsed.author, statement), "status": statement.status,
                "justification": statement.justification, "created": now, "expires": terms.expires,
                "source": Source.SUPPLIER, "document_digest": digest_of(document),
            }
        )
        for vulnerability, purl, statement in usable
    ]  # fmt: skip
    _take_in(services, whole, document, requester)
    return Imported(tuple(whole), tuple(left_out))


def sign_document(services: Services, document_id: str) -> None:
    """For the worker that has the identity. A document that is signed already stays as it is.

    Raises what signing raises, and ExceptionUnknown.
    """
    with services.database.read() as session:
        found = store.document(session, document_id)
        document = store.content(session, found.document_digest)
    if found.state == store.SIGNED:
        return
    subject = Subject.of(f"urn:goldsmith:exceptions:{document_id}", digest_of(found.scope.encode()))
    statement = Statement(subject=(subject,), predicateType=OPENVEX, predicate=json.loads(document))
    (signed,) = signed_by_us(services, [statement])
    with services.database.write() as session:
        store.mark_signed(session, document_id, signed.bundle)


def refuse_document(services: Services, document_id: str, error: GoldsmithError) -> None:
    """It will not be signed any more; whoever looks at it reads why."""
    with services.database.write() as session:
        store.mark_refused(session, document_id, error.problem())


def active_exceptions(services: Services, vulnerabilities: Iterable[str]) -> Believed:
    """The exceptions that name one of these vulnerabilities, each verified now: signed by our own signer, unchanged.

    Those that have expired of late are there too, so that the verdict can tell of them; `matching` counts none of them.
    """
    now, wanted = _now(), frozenset(vulnerabilities)
    with services.database.read() as session:
        kept = store.about(session, wanted, not_before=(now - _TOLD_EXPIRED).timestamp())
    if not kept:
        return Believed(())
    settings = services.settings
    if settings.signer_identity is None or settings.signer_issuer is None:
        why = "nobody has said whose signature to believe (GOLDSMITH_SIGNER_IDENTITY and GOLDSMITH_SIGNER_ISSUER)"
        return Believed((), tuple(f"exceptions {one.id}: {why}" for one in kept))
    found: list[PolicyException] = []
    disbelieved: list[str] = []
    root = client_trust(services.trust).trusted_root
    for one in kept:
        try:
            bundle = verify_bundle(
                one.bundle or b"",
                trusted_root=root,
                identity=settings.signer_identity,
                issuer=settings.signer_issuer,
                digest=digest_of(one.scope.encode()),
                predicate_type=OPENVEX,
            )
            listed = _listed(one, digest_of(rfc8785.dumps(bundle.statement.predicate)))
            found += [each for each in listed if each.vulnerability in wanted]
        except VerificationFailed as error:
            log.warning("exceptions %s do not count: %s", one.id, error.detail)
            disbelieved.append(f"exceptions {one.id}: {error.detail}")
    return Believed(tuple(found), tuple(disbelieved))


def exception_of(row: ExceptionRow, document: VexDocument) -> PolicyException:
    """As it was taken in, for showing it. It is not verified here."""
    return next(one for one in _LISTED.validate_json(document.scope) if one.id == row.id)


def _listed(kept: Kept, document_digest: str) -> list[PolicyException]:
    """Raises VerificationFailed when the signed document is another than the exceptions name."""
    try:
        listed = _LISTED.validate_json(kept.scope)
    except ValidationError as error:
        raise VerificationFailed("what was signed are no exceptions of this version") from error
    if any(one.document_digest != document_digest for one in listed):
        raise VerificationFailed("the exceptions name another OpenVEX document than the one that is signed")
    return [one for one in listed if one.id not in kept.revoked]


def _take_in(services: Services, exceptions: Sequence[PolicyException], document: bytes, requester: str) -> None:
    """Document and the errand to sign it, in one transaction."""
    document_id = new_build_id()
    scope = rfc8785.dumps([one.model_dump(mode="json") for one in exceptions]).decode()
    indexed = [Indexed(one.id, one.vulnerability, one.expires.timestamp()) for one in exceptions]
    with services.database.write() as session:
        store.add(session, document_id, scope, document, indexed, requester)
        errands.add(session, ErrandKind.SIGN, document_id)


def _refuse_expiry(services: Services, expires: datetime, now: datetime) -> None:
    most = services.settings.exception_days
    if not now < expires <= now + timedelta(days=most):
        fault = Fault(
            field="expires", message=f"it must lie ahead, by {most} days at the most", hint="renew it when it expires"
        )
        raise ExceptionInvalid(str(fault), errors=[fault])


def _made(told: dict[str, Any]) -> PolicyException:
    try:
        return PolicyException.model_validate(told)
    except ValidationError as error:
        faults = [
            Fault(field=".".join(map(str, entry["loc"])) or None, message=entry["msg"].removeprefix("Value error, "))
            for entry in error.errors(include_input=False, include_url=False)
        ]
        raise ExceptionInvalid("; ".join(str(fault) for fault in faults[:3]), errors=faults) from None


def _reason(reason: str, author: str, statement: VexStatement) -> str:
    """Why it was imported, and what the supplier said."""
    said = statement.impact_statement or statement.justification or statement.status_notes or statement.status
    whole = f"{reason} ({author}: {said})"
    return "".join(character if character.isprintable() else " " for character in whole)[:2000]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
