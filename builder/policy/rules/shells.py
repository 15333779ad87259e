"""Without a shell most attacks on a service end where they begin. Name this rule for images that need none;
Debian's own base has one.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, judge_paths
from builder.policy.strictness import ALLOWED, Parameters


class Shells(Parameters):
    """Which of them may be there."""

    allowed: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Paths that may be there; `*` stands for anything."
    )


def judge(facts: Facts, parameters: Shells) -> Judgement:
    return judge_paths(facts.files.shells if facts.files else None, "shells", parameters.allowed, RULE.remedy)


RULE = Rule(
    name="shells",
    title="No shell",
    parameters=Shells,
    judge=judge,
    field="spec.run",
    remedy="take the shell out in a last step of spec.run, or start from a base without one",
    example={"allowed": ["/usr/bin/dash"]},
)
