"""A set-uid or set-gid program runs with the rights of its owner, whoever starts it (CIS Docker benchmark, 4.8). A
recipe's hardening takes the bits off, except where `hardening.keepSetuid` says.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, judge_paths
from builder.policy.strictness import ALLOWED, NO, Parameters


class Setuid(Parameters):
    """Which programs may keep the bits."""

    allowed: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Paths that may have them; `*` stands for anything."
    )
    allow_kept: Annotated[bool, NO] = Field(
        default=False, description="Also allow what the recipe itself lists in `hardening.keepSetuid`."
    )


def judge(facts: Facts, parameters: Setuid) -> Judgement:
    allowed = [*parameters.allowed, *(facts.kept_setuid if parameters.allow_kept else ())]
    return judge_paths(facts.files.setid if facts.files else None, "set-uid or set-gid programs", allowed, RULE.remedy)


RULE = Rule(
    name="setuid",
    title="No set-uid or set-gid programs",
    parameters=Setuid,
    judge=judge,
    field="spec.hardening.removeSetuid",
    remedy="leave spec.hardening.removeSetuid on, and the path out of spec.hardening.keepSetuid",
    example={"allowed": ["/usr/bin/su"]},
)
