"""Verifying a released image on the server, by its own trust or by whom a policy names; every check told."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request

from builder.api.access import Caller
from builder.api.asking import asked_verification, documented_verification
from builder.api.bodies import read_body
from builder.api.problems import documented
from builder.api.service import TrustNotConfigured
from builder.api.turns import Turns
from builder.api.views import View
from builder.errors import Fault
from builder.ledger import checkpoints
from builder.ledger.note import parse_key
from builder.pipeline.rebuilding import image_unknown
from builder.pipeline.services import Services
from builder.pipeline.stored_evidence import StoredEvidence
from builder.signing.trust import client_trust
from builder.store import releases
from builder.verification.data import verification_data
from builder.verification.image import Verification, verify_image
from builder.verification.policy import VerificationPolicy, VerificationPolicyInvalid, verification_policy_from_data
from builder.verification.trust import Signatory, Trusted

router = APIRouter(prefix="/v1", tags=["images"])


class CheckView(View):
    name: str
    passed: bool
    detail: str


class TrustView(View):
    source: str
    from_server: bool
    identity: str
    issuer: str
    rebuilder: str | None


class ReproductionView(View):
    identity: str
    log_index: int
    integrated_time: datetime | None
    bit_for_bit: bool


class VerificationView(View):
    """`verified` is true if every check passed; `ignored` says why other bundles were not counted."""

    verified: bool
    image: str
    digest: str
    checks: list[CheckView]
    trust: TrustView
    sandbox: bool | None
    log_index: int | None
    integrated_time: datetime | None
    builder_id: str | None
    recipe_digest: str | None
    reproduction: ReproductionView | None
    ignored: list[str]


@router.post(
    "/verifications",
    summary="Verify a released image",
    responses=documented(400, 401, 404, 413, 415, 422, 500, 503),
    openapi_extra=documented_verification(),
)
async def verify(request: Request, caller: Caller) -> VerificationView:
    """The same checks as `goldsmith verify`, of what this service keeps. Whoever does not believe the service verifies
    the image's archive elsewhere. What does not verify is an answer too: `verified` is false, and a check says why."""
    services: Services = request.app.state.services
    turns: Turns = request.app.state.turns
    asked = asked_verification(await read_body(request, ("application/json",)))
    policy = _policy(asked.policy) if asked.policy is not None else None
    verification = await turns.run(caller, lambda: _verify(services, asked.digest, policy))
    return VerificationView.model_validate_json(json.dumps(verification_data(verification)))


def _policy(data: dict[str, Any]) -> VerificationPolicy:
    policy = verification_policy_from_data(data)
    if policy.spec.trusted_root is not None:
        fault = Fault(
            field="spec.trustedRoot",
            message="a request names no files of the server",
            hint="leave it out",
        )
        raise VerificationPolicyInvalid(f"policy: {fault}", errors=[fault])
    return policy


def _verify(services: Services, digest: str, policy: VerificationPolicy | None) -> Verification:
    with services.database.read() as session:
        release = releases.of_image(session, digest, services.settings.registry)
    if release is None:
        raise image_unknown(digest)
    evidence = StoredEvidence(services.database, release)
    return verify_image(evidence, _trusted(services, policy), policy.expected() if policy is not None else None)


def _trusted(services: Services, policy: VerificationPolicy | None) -> Trusted:
    settings = services.settings
    signatories = policy.signatories if policy is not None else ()
    if not signatories and settings.signer_identity and settings.signer_issuer:
        signatories = (Signatory(settings.signer_identity, settings.signer_issuer),)
    if not signatories:
        raise TrustNotConfigured("it is not said who signs here", hint="give a policy with `signers`")
    with services.database.read() as session:
        own = tuple(checkpoints.keys(session))
    first, *also = signatories
    trust = Trusted(
        client_trust(services.trust).trusted_root,
        first.identity,
        first.issuer,
        "this service",
        from_server=True,
        also=tuple(also),
        ledger_keys=own,
    )
    if policy is None:
        return trust
    given = policy.spec.ledger_keys
    return replace(
        trust,
        rebuilder=policy.spec.rebuilt_by,
        reproduced=policy.spec.rebuilt_by is not None,
        ledger_keys=tuple(parse_key(one) for one in given) or own,
        recorded=bool(given),
    )
