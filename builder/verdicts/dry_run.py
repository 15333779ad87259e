"""A dry run: what a policy would have said of an image, from its stored facts. Nothing is decided and nothing kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.errors import Fault
from builder.policy.effective import PolicyLoosened, effective, refuse_looser
from builder.policy.exceptions import PolicyException
from builder.policy.facts import Facts
from builder.policy.gate import evaluate
from builder.policy.organisation import OrganisationPolicy
from builder.policy.policy import Policy
from builder.policy.verdict import Verdict
from builder.verdicts.report import VerdictReport, verdict_report


class RecipePolicy(StrEnum):
    """Whose `spec.policy` was judged by beside the organisation's policy."""

    BUILD = "build"
    REQUEST = "request"
    NONE = "none"


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class ExceptionBasis(_Told):
    """`counted`: signed exceptions counted, as they do in the gate. `left_aside` says why all or some did not."""

    counted: bool
    as_of: datetime = Field(description="When the facts were gathered: what had expired then did not count.")
    left_aside: tuple[str, ...] = ()


class DryRun(_Told):
    verdict: VerdictReport
    recipe_policy: RecipePolicy
    exceptions: ExceptionBasis
    newly_failing: tuple[str, ...] | None = Field(
        description="Rules that fail now and did not when the image was judged; null if it was not."
    )
    looser: tuple[Fault, ...] = Field(
        default=(), description="What the recipe asks for that is less than is demanded: a build of it is refused."
    )

    @property
    def headline(self) -> str:
        if self.verdict.passed:
            return "would pass the gate"
        number = len(self.verdict.failed)
        return f"would be stopped at the gate: {number} {'rule fails' if number == 1 else 'rules fail'}"


@dataclass(frozen=True)
class Subject:
    """Facts to judge, and the gate's verdict `before`. Without a build of them `build` and `state` are empty."""

    facts: Facts
    build: str = ""
    state: str = ""
    before: Verdict | None = None


def dry_run(
    organisation: OrganisationPolicy,
    subject: Subject,
    policy: Policy | None,
    *,
    recipe_policy: RecipePolicy,
    basis: ExceptionBasis,
    exceptions: Sequence[PolicyException] = (),
    until: float | None = None,
) -> DryRun:
    """Judge as the gate does. Raises CustomRulesTooSlow if there is an `until`, a time of the monotonic clock."""
    facts = subject.facts
    verdict = evaluate(effective(organisation, facts.recipe, policy), facts, exceptions=exceptions, until=until)
    now = datetime.now(UTC)
    report = verdict_report(
        verdict,
        build=subject.build,
        recipe=facts.recipe,
        state=subject.state,
        scanner=facts.scanner,
        database=facts.database,
        judged_at=now,
        attestations={},
        now=now,
    )
    return DryRun(
        verdict=report,
        recipe_policy=recipe_policy,
        exceptions=basis,
        newly_failing=_newly_failing(verdict, subject.before) if subject.before else None,
        looser=_looser(organisation, facts.recipe, policy),
    )


def _newly_failing(verdict: Verdict, before: Verdict) -> tuple[str, ...]:
    failed = {rule.rule for rule in before.rules if not rule.passed}
    return tuple(rule.rule for rule in verdict.rules if not rule.passed and rule.rule not in failed)


def _looser(organisation: OrganisationPolicy, recipe: str, policy: Policy | None) -> tuple[Fault, ...]:
    if policy is None:
        return ()
    try:
        refuse_looser(organisation, recipe, policy)
    except PolicyLoosened as error:
        return tuple(error.errors)
    return ()
