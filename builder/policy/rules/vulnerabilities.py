"""Known vulnerabilities, by severity, with a limit of its own for those that no upgrade fixes yet.

One that nobody has rated counts as critical: the worst are at first unrated too. A severity equal to the limit
passes. Exceptions take single vulnerabilities out; the verdict lists each that was used.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, count
from builder.policy.strictness import Parameters, ranked
from builder.policy.verdict import Offender
from builder.scanning.findings import Severity, Vulnerability

SeverityLimit = Literal["none", "low", "medium", "high", "critical"]
LIMITS: tuple[SeverityLimit, ...] = get_args(SeverityLimit)
SEVEREST_LAST = ranked(*LIMITS)
# Nobody has rated an UNKNOWN one yet. The worst are at first unrated too, so it weighs as much as they do.
WEIGHTS = {Severity.LOW: 1, Severity.MEDIUM: 2, Severity.HIGH: 3, Severity.CRITICAL: 4, Severity.UNKNOWN: 4}


class Vulnerabilities(Parameters):
    """The worst severities that may be released."""

    maximum_severity: Annotated[SeverityLimit, SEVEREST_LAST] = Field(
        default="medium", description="Of what an upgrade fixes; `none` allows no vulnerability at all."
    )
    maximum_severity_unfixed: Annotated[SeverityLimit, SEVEREST_LAST] = Field(
        default="medium",
        description="Of what nothing fixes yet; when left out, it is `maximumSeverity`. `critical` ignores them all.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_limit_for_both(cls, data: Any) -> Any:
        if isinstance(data, dict) and not {"maximumSeverityUnfixed", "maximum_severity_unfixed"} & data.keys():
            fixed = data.get("maximumSeverity", data.get("maximum_severity"))
            return {**data, "maximumSeverityUnfixed": fixed} if fixed in LIMITS else data
        return data


def judge(facts: Facts, parameters: Vulnerabilities) -> Judgement:
    found = facts.findings.vulnerabilities
    offending = sorted(
        (one for one in found if offends(one, parameters)),
        key=lambda one: (-WEIGHTS[one.severity], one.package, one.id),
    )
    limit = parameters.maximum_severity
    ignored = [one for one in found if one not in offending and WEIGHTS[one.severity] > LIMITS.index(limit)]
    allowed = "no vulnerability" if limit == "none" else f"nothing above {limit}"
    if parameters.maximum_severity_unfixed not in (limit, "critical"):
        allowed += f", unfixed nothing above {parameters.maximum_severity_unfixed}"
    if offending:
        fixable = sum(one.fixed is not None for one in offending)
        explanation = (
            f"{count(offending, 'vulnerability', 'vulnerabilities')} of {len(found)} found "
            f"{'is' if len(offending) == 1 else 'are'} worse than the policy allows ({allowed}); an upgrade fixes "
            f"{fixable}."
        )
    else:
        explanation = f"The policy allows {allowed}, and of {len(found)} vulnerabilities found none is worse."
    if ignored:
        explanation += f" {len(ignored)} without a fix {'was' if len(ignored) == 1 else 'were'} ignored, as it says."
    return Judgement(not offending, explanation, tuple(map(_offender, offending)))


def offends(found: Vulnerability, parameters: Vulnerabilities) -> bool:
    limit = parameters.maximum_severity if found.fixed is not None else parameters.maximum_severity_unfixed
    return WEIGHTS[found.severity] > LIMITS.index(limit)


def _offender(found: Vulnerability) -> Offender:
    if found.fixed is not None:
        remedy = f"upgrade {found.package} {found.installed} to {found.fixed}"
    else:
        needed = "critical" if found.severity is Severity.UNKNOWN else found.severity.lower()
        remedy = (
            f"no fix yet: remove {found.package}, ask for an exception, or, where the organisation's policy lets you, "
            f"set spec.policy.ignoreUnfixed or raise spec.policy.maximumSeverity to {needed}"
        )
    return Offender(
        id=found.id, severity=found.severity, subject=f"{found.package} {found.installed}".strip(), remedy=remedy
    )


RULE = Rule(
    name="vulnerabilities",
    title="No known vulnerability is worse than the limit",
    parameters=Vulnerabilities,
    judge=judge,
    field="spec.policy.maximumSeverity",
    remedy="upgrade what has a fix, remove what has none, or ask for an exception",
    always=True,
    example={"maximumSeverity": "medium", "maximumSeverityUnfixed": "high"},
)
