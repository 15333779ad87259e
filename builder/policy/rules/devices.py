"""A device node in an image opens a device of the host to whoever may use it. An engine makes those that containers
need.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, judge_paths
from builder.policy.strictness import ALLOWED, Parameters


class Devices(Parameters):
    """Which of them may be there."""

    allowed: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Paths that may be there; `*` stands for anything."
    )


def judge(facts: Facts, parameters: Devices) -> Judgement:
    return judge_paths(facts.files.devices if facts.files else None, "device nodes", parameters.allowed, RULE.remedy)


RULE = Rule(
    name="devices",
    title="No device nodes",
    parameters=Devices,
    judge=judge,
    field="spec.run",
    remedy="remove them: an engine gives each container its own /dev",
    example={"allowed": ["/dev/fuse"]},
)
