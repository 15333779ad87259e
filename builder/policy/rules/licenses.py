"""Licences by their SPDX names, as the packages' own metadata has them. Of an expression with `OR` one choice must
be allowed, of one with `AND` every part; `WITH` an exception counts as a name of its own, then as the licence
alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, count, matches
from builder.policy.spdx import Acceptable, holds
from builder.policy.strictness import ALLOWED, DENIED, Parameters, ranked
from builder.policy.verdict import Offender


class Licenses(Parameters):
    """SPDX names; `*` stands for anything, upper and lower case are alike."""

    allow: Annotated[list[str] | None, ALLOWED] = Field(
        default=None, description="Only these; when left out, all that `deny` does not name."
    )
    deny: Annotated[list[str], DENIED] = Field(default=[], description="None of these, though `allow` names them too.")
    unknown: Annotated[Literal["fail", "allow"], ranked("fail", "allow")] = Field(
        default="fail", description="What becomes of packages that state no licence."
    )


def judge(facts: Facts, parameters: Licenses) -> Judgement:
    if facts.packages_seen > len(facts.packages):
        return Judgement(
            False, "The scan does not list every package, so nobody knows their licences.", remedy="scan again"
        )
    offenders = []
    for one in facts.packages:
        refused = [text for text in one.licenses if not _allowed(text, parameters)]
        if refused:
            told = f"{one.version} is under {', '.join(refused[:5])}"
            offenders.append(Offender(id=one.name, subject=told, remedy=f"take {one.name} out, or allow its licence"))
        elif not one.licenses and parameters.unknown == "fail":
            offenders.append(
                Offender(
                    id=one.name,
                    subject=f"{one.version} states no licence",
                    remedy=f"take {one.name} out, or set `unknown: allow`",
                )
            )
    if not offenders:
        return Judgement(True, f"The policy allows the licences of all {len(facts.packages)} packages.")
    return Judgement(
        False, f"{count(offenders, 'package has', 'packages have')} a licence that is not allowed.", tuple(offenders)
    )


def _allowed(expression: str, parameters: Licenses) -> bool:
    allow = None if parameters.allow is None else [one.lower() for one in parameters.allow]
    deny = [one.lower() for one in parameters.deny]
    acceptable = Acceptable(
        allowed=lambda name: allow is None or matches(name.lower(), allow),
        denied=lambda name: matches(name.lower(), deny),
    )
    return holds(expression, acceptable)


RULE = Rule(
    name="licenses",
    title="Only allowed licences",
    parameters=Licenses,
    judge=judge,
    field="spec.packages",
    remedy="take the packages out, or have the policy allow their licences",
    example={"deny": ["AGPL-*", "SSPL-*"], "unknown": "allow"},
)
