"""What is told of a verdict: the gate's own words, who answers for what was excepted, and what is signed of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.policy.verdict import Excepted, RuleResult, Verdict
from builder.scanning.findings import DatabaseIdentity, ScannerIdentity

SOON_DAYS = 14


class Standing(StrEnum):
    """Where an exception stands on the day that somebody looks."""

    HOLDS = "holds"
    ENDS_SOON = "ends soon"
    EXPIRED = "EXPIRED"


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class OffenderTold(_Told):
    id: str
    severity: str | None
    subject: str
    remedy: str


class RuleTold(_Told):
    rule: str
    title: str
    passed: bool
    explanation: str
    field: str | None = Field(description="Where in the recipe the rule is set, if it is there.")
    parameters: dict[str, Any]
    remedy: str | None = Field(description="What would make it pass.")
    documentation: str | None
    offenders: tuple[OffenderTold, ...]


class ExceptedTold(_Told):
    """A vulnerability that did not count. `standing` is as of now, not as of the verdict."""

    vulnerability: str
    package: str
    exception: str
    owner: str
    reason: str
    expires: datetime | None
    standing: Standing


class PolicyTold(_Told):
    name: str
    version: str
    digest: str


class DatabaseTold(_Told):
    digest: str
    updated_at: datetime
    source: str
    sample: bool


class VerdictReport(_Told):
    """The verdict on the image of one build. It is told the same whether the image was released or stopped."""

    build: str
    recipe: str
    image: str = Field(description="The image that was judged, by digest.")
    state: str = Field(description="The build's.", examples=["released"])
    passed: bool
    explanation: str
    policy: PolicyTold | None
    scanner: str
    database: DatabaseTold
    judged_at: datetime | None
    rules: tuple[RuleTold, ...]
    excepted: tuple[ExceptedTold, ...]
    attestations: dict[str, str] = Field(description="Signed bundles by predicate type, each by its digest.")
    facts_digest: str | None

    @property
    def failed(self) -> tuple[RuleTold, ...]:
        return tuple(rule for rule in self.rules if not rule.passed)

    @property
    def headline(self) -> str:
        if self.passed:
            return "passed the gate"
        number = len(self.failed)
        return f"stopped at the gate: {number} {'rule' if number == 1 else 'rules'} failed"

    def json_text(self) -> str:
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


def verdict_report(
    verdict: Verdict,
    *,
    build: str,
    recipe: str,
    state: str,
    scanner: ScannerIdentity,
    database: DatabaseIdentity,
    judged_at: datetime | None,
    attestations: dict[str, str],
    now: datetime,
) -> VerdictReport:
    policy = verdict.policy
    return VerdictReport(
        build=build,
        recipe=recipe,
        image=verdict.reference,
        state=state,
        passed=verdict.passed,
        explanation=verdict.explanation,
        policy=PolicyTold(name=policy.name, version=policy.version, digest=policy.digest) if policy else None,
        scanner=f"{scanner.name} {scanner.version}",
        database=DatabaseTold(
            digest=database.digest, updated_at=database.updated_at, source=database.source, sample=database.sample
        ),
        judged_at=judged_at,
        rules=tuple(_rule(rule) for rule in sorted(verdict.rules, key=lambda rule: rule.passed)),
        excepted=tuple(_excepted(one, now) for one in verdict.excepted),
        attestations=attestations,
        facts_digest=verdict.facts_digest,
    )


def _rule(rule: RuleResult) -> RuleTold:
    return RuleTold(
        rule=rule.rule,
        title=rule.title or rule.rule,
        passed=rule.passed,
        explanation=rule.explanation,
        field=rule.field,
        parameters=rule.parameters,
        remedy=rule.remedy,
        documentation=rule.documentation,
        offenders=tuple(
            OffenderTold(id=one.id, severity=one.severity, subject=one.subject, remedy=one.remedy)
            for one in rule.offenders
        ),
    )


def _excepted(one: Excepted, now: datetime) -> ExceptedTold:
    standing = Standing.HOLDS
    if one.expires is not None and one.expires <= now:
        standing = Standing.EXPIRED
    elif one.expires is not None and (one.expires - now).days < SOON_DAYS:
        standing = Standing.ENDS_SOON
    return ExceptedTold(**one.model_dump(), standing=standing)
