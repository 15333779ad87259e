"""Which packages may be in an image, by name. What `deny` names is not released, and with `allow` nothing else is
than what it names: packages of the distribution and of languages, and what they pull in.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, count, matches
from builder.policy.strictness import ALLOWED, DENIED, Parameters
from builder.policy.verdict import Offender


class Packages(Parameters):
    """Names of packages; `*` stands for anything."""

    allow: Annotated[list[str] | None, ALLOWED] = Field(
        default=None, description="Only these; when left out, all that `deny` does not name."
    )
    deny: Annotated[list[str], DENIED] = Field(default=[], description="None of these, though `allow` names them too.")


def judge(facts: Facts, parameters: Packages) -> Judgement:
    if facts.packages_seen > len(facts.packages):
        return Judgement(
            False, "The scan does not list every package, so nobody knows which there are.", remedy="scan again"
        )
    offenders = []
    for one in facts.packages:
        names = [one.name, *([one.source_package] if one.source_package else [])]
        denied = any(matches(name, parameters.deny) for name in names)
        if denied or (parameters.allow is not None and not any(matches(name, parameters.allow) for name in names)):
            why = "is denied by the policy" if denied else "is not among those that the policy allows"
            offenders.append(Offender(id=one.name, subject=f"{one.version} {why}", remedy=f"take {one.name} out"))
    if not offenders:
        return Judgement(True, f"The policy allows all {len(facts.packages)} packages.")
    return Judgement(
        False, f"{count(offenders, 'package is', 'packages are')} not allowed by the policy.", tuple(offenders)
    )


RULE = Rule(
    name="packages",
    title="Only allowed packages",
    parameters=Packages,
    judge=judge,
    field="spec.packages",
    remedy="take the packages out of spec.packages, and what pulls them in; or have the policy allow them",
    example={"deny": ["telnet*", "netcat-*"]},
)
