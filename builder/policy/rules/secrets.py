"""Whoever pulls an image can read every secret in it. Trivy looks for keys, tokens and passwords in all files, and
for variables of the environment that are named like secrets. The value of none is kept or shown.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, count
from builder.policy.strictness import NO, Parameters
from builder.policy.verdict import Offender
from builder.scanning.findings import Misconfiguration, Secret

# Trivy's check for secrets in environment variables; it goes by their names, so it is a secret found, not a remark.
SECRET_CHECKS = frozenset({"DS-0031"})


class Secrets(Parameters):
    """Whether what looks like a secret may be released."""

    allow: Annotated[bool, NO] = Field(
        default=False, description="Release all the same: for images whose findings are known to be none."
    )


def judge(facts: Facts, parameters: Secrets) -> Judgement:
    offenders = (
        *(_in_file(one) for one in facts.findings.secrets),
        *(_in_environment(one) for one in facts.findings.misconfigurations if one.id in SECRET_CHECKS),
    )
    found = count(offenders, "secret was", "secrets were")
    if not offenders:
        explanation = "No secrets were found."
    elif parameters.allow:
        explanation = f"{found} found and allowed by the policy."
    else:
        explanation = f"{found} found; whoever pulls an image can read it."
    return Judgement(parameters.allow or not offenders, explanation, offenders)


def _in_file(found: Secret) -> Offender:
    return Offender(
        id=found.rule,
        severity=found.severity,
        subject=f"{found.target}, line {found.line}",
        remedy="take it out of the image, replace it where it is used, or set spec.policy.allowSecrets if it is none",
    )


def _in_environment(found: Misconfiguration) -> Offender:
    return Offender(
        id=found.id,
        severity=found.severity,
        subject=f"the image's environment: {found.message}",
        remedy="take it out of spec.environment and pass it when a container starts",
    )


RULE = Rule(
    name="secrets",
    title="No secrets",
    parameters=Secrets,
    judge=judge,
    field="spec.policy.allowSecrets",
    remedy="take the secrets out of the image, and replace them where they are used",
    always=True,
    example={"allow": False},
)
