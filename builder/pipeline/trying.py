"""A policy tried on a stored scan, for whoever asks the service: within limits, for the policy may be anybody's."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from builder.errors import Broken, Fault, GoldsmithError, Rejected
from builder.pipeline.evidence import ScanEvidence
from builder.pipeline.excepting import active_exceptions
from builder.pipeline.rebuilding import image_unknown
from builder.pipeline.services import Services
from builder.policy.custom import check_custom
from builder.policy.exceptions import PolicyException
from builder.policy.facts import Facts
from builder.policy.organisation import OrganisationPolicy
from builder.policy.policy import Policy
from builder.policy.reading import policy_from_data, read_placed, recipe_policy_from_data
from builder.policy.verdict import Verdict
from builder.recipes.model import Recipe
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.schema import Build
from builder.verdicts.dry_run import DryRun, ExceptionBasis, RecipePolicy, Subject, dry_run

MOST_CUSTOM_RULES = 20
MOST_VALUES = 5000
SECONDS = 10.0

log = logging.getLogger("goldsmith")


class FactsUnavailable(Rejected):
    """They are kept of each image that was scanned, released or not; of older scans there are none."""

    slug = "facts-unavailable"
    title = "There are no facts to judge"
    status = 409


class DryRunTooLarge(Rejected):
    slug = "dry-run-too-large"
    title = "The policy is too large for a dry run"


@dataclass(frozen=True)
class Trial:
    """What to try, on the scan of a build or of an image by its digest. `policy` is YAML or data, None for the one in
    force; `recipe_policy` is data, None for the build's own."""

    build: str | None = None
    image: str | None = None
    policy: str | dict[str, Any] | None = None
    recipe_policy: dict[str, Any] | None = None


def try_policy(services: Services, trial: Trial) -> DryRun:
    """Judge stored facts. Takes SECONDS for custom rules, and what one of them may take.

    Raises BuildUnknown, ImageUnknown, FactsUnavailable, PolicyInvalid, DryRunTooLarge, CustomRulesTooSlow, and
    SettingsInvalid where the policy in force is at fault.
    """
    until = time.monotonic() + SECONDS
    subject, own = _stored(services, trial)
    policy, source = own, RecipePolicy.BUILD
    if trial.recipe_policy is not None:
        _refuse_more("recipePolicy", "values", _values(trial.recipe_policy), MOST_VALUES)
        policy = recipe_policy_from_data(trial.recipe_policy, field="recipePolicy")
        source = RecipePolicy.REQUEST
    organisation = services.policy if trial.policy is None else _given(trial.policy, until)
    basis, exceptions = _exceptions(services, subject.facts)
    return dry_run(organisation, subject, policy, recipe_policy=source, basis=basis, exceptions=exceptions, until=until)


def facts_of_build(session: Session, build_id: str) -> tuple[bytes, str]:
    """The facts as they were kept, and their digest. Raises BuildUnknown or FactsUnavailable."""
    build = builds.get(session, build_id)
    found = attachments.find(session, build.id, Kind.FACTS)
    if found is None:
        raise FactsUnavailable(
            f"build {build.id} is {build.state} and has no facts", hint="they are kept when the image is scanned"
        )
    return attachments.content(session, found), found.blob_digest


def build_of_image(session: Session, digest: str) -> str:
    """The newest build that released an image and has facts of it. Raises ImageUnknown or FactsUnavailable."""
    found = attachments.of_image(session, digest, Kind.FACTS)
    if found is not None:
        return found.build_id
    if attachments.of_image(session, digest, Kind.SCAN) is None:
        raise image_unknown(digest)
    raise FactsUnavailable(f"the image {digest} was scanned before facts were kept", hint="build it again")


def _stored(services: Services, trial: Trial) -> tuple[Subject, Policy]:
    with services.database.read() as session:
        build_id = trial.build or build_of_image(session, trial.image or "")
        build = builds.get(session, build_id)
        content, _ = facts_of_build(session, build_id)
        recipe, state, before = build.recipe, build.state, _before(build)
    try:
        facts = Facts.model_validate_json(content)
        policy = Recipe.model_validate_json(recipe).spec.policy
    except ValidationError as error:
        raise FactsUnavailable(
            f"the facts of build {build_id} are of another version of Goldsmith", hint="build the image again"
        ) from error
    return Subject(facts, build=build_id, state=state, before=before), policy


def _before(build: Build) -> Verdict | None:
    scan = build.evidence.get("scan")
    return ScanEvidence.model_validate(scan).verdict if scan else None


def _given(policy: str | dict[str, Any], until: float) -> OrganisationPolicy:
    if isinstance(policy, str):
        organisation, document = read_placed(policy)
    else:
        organisation, document = policy_from_data(policy), None
    _refuse_large(organisation)
    check_custom(organisation, document=document, until=until)
    return organisation


def _refuse_large(organisation: OrganisationPolicy) -> None:
    spec = organisation.spec
    rules = len(spec.custom) + sum(len(one.custom) for one in spec.overrides)
    _refuse_more("policy", "custom rules", rules, MOST_CUSTOM_RULES)
    _refuse_more("policy", "values", _values(organisation.model_dump(exclude_unset=True)), MOST_VALUES)


def _refuse_more(field: str, what: str, number: int, most: int) -> None:
    if number > most:
        fault = Fault(field=field, message=f"it has {number} {what}; a dry run takes {most} at the most")
        hint = "try it in parts, or with `goldsmith policy test` on a facts file"
        raise DryRunTooLarge(str(fault), errors=[fault], hint=hint)


def _values(data: Any) -> int:
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return 1 + sum(_values(one) for one in inner)


def _exceptions(services: Services, facts: Facts) -> tuple[ExceptionBasis, tuple[PolicyException, ...]]:
    """As the gate sees them. Where they cannot be verified none counts, and the answer says so."""
    try:
        believed = active_exceptions(services, {one.id for one in facts.findings.vulnerabilities})
    except GoldsmithError as error:
        log.warning("no exception counts in a dry run: %s", error)
        why = error.title if isinstance(error, Broken) else error.detail
        return ExceptionBasis(counted=False, as_of=facts.gathered_at, left_aside=(why,)), ()
    basis = ExceptionBasis(counted=True, as_of=facts.gathered_at, left_aside=believed.disbelieved)
    return basis, believed.exceptions
