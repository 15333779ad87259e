"""Trivy's checks of the image's configuration, in the sense of the CIS Docker benchmark, section 4. By default they
are remarks, recorded and not held against the image; a policy sets a limit. Secrets in the environment are the rule
`secrets`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, count, matches
from builder.policy.rules.secrets import SECRET_CHECKS
from builder.policy.rules.vulnerabilities import LIMITS, SEVEREST_LAST, WEIGHTS, SeverityLimit
from builder.policy.strictness import ALLOWED, Parameters
from builder.policy.verdict import Offender


class MisconfigurationLimit(Parameters):
    """The worst mistake in the configuration that may be released."""

    maximum_severity: Annotated[SeverityLimit, SEVEREST_LAST] = Field(
        default="critical", description="`critical` holds nothing against an image, `none` every remark."
    )
    ignore: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Checks that do not count, by identifier; `*` stands for anything."
    )


def judge(facts: Facts, parameters: MisconfigurationLimit) -> Judgement:
    remarks = [one for one in facts.findings.misconfigurations if one.id not in SECRET_CHECKS]
    limit = LIMITS.index(parameters.maximum_severity)
    worse = [one for one in remarks if WEIGHTS[one.severity] > limit and not matches(one.id, parameters.ignore)]
    if worse:
        explanation = (
            f"{count(worse, 'check', 'checks')} of the image's configuration failed with a severity above "
            f"{parameters.maximum_severity}."
        )
    elif remarks:
        explanation = (
            f"{count(remarks, 'remark', 'remarks')} on the image's configuration, recorded but not held against it."
        )
    else:
        explanation = "There is nothing to remark on the image's configuration."
    return Judgement(
        not worse,
        explanation,
        tuple(
            Offender(id=one.id, severity=one.severity, subject=one.title, remedy=one.resolution or one.message)
            for one in worse or remarks
        ),
    )


RULE = Rule(
    name="misconfiguration",
    title="The image's configuration has no mistake worse than the limit",
    parameters=MisconfigurationLimit,
    judge=judge,
    field=None,
    remedy="change the recipe as each check says",
    always=True,
    example={"maximumSeverity": "high", "ignore": ["DS-0026"]},
)
