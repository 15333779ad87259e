"""What everybody may write to, an intruder may change. Directories with the sticky bit, such as /tmp, do not count:
in them nobody touches what others own. Links do not count: their own mode means nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, judge_paths
from builder.policy.strictness import ALLOWED, Parameters


class WorldWritable(Parameters):
    """Which of them may be there."""

    allowed: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Paths that may be there; `*` stands for anything."
    )


def judge(facts: Facts, parameters: WorldWritable) -> Judgement:
    return judge_paths(
        facts.files.world_writable if facts.files else None, "world-writable paths", parameters.allowed, RULE.remedy
    )


RULE = Rule(
    name="worldWritable",
    title="Nothing that everybody may write to",
    parameters=WorldWritable,
    judge=judge,
    field="spec.run",
    remedy="take the bit away in spec.run (`chmod o-w`), or give a directory the sticky bit",
    example={"allowed": ["/run/lock"]},
)
