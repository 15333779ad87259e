"""Histories of shells and clients tell what somebody typed while the image was made, passwords at times included."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, judge_paths
from builder.policy.strictness import ALLOWED, Parameters


class Histories(Parameters):
    """Which of them may be there."""

    allowed: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Paths that may be there; `*` stands for anything."
    )


def judge(facts: Facts, parameters: Histories) -> Judgement:
    return judge_paths(facts.files.histories if facts.files else None, "histories", parameters.allowed, RULE.remedy)


RULE = Rule(
    name="histories",
    title="No histories",
    parameters=Histories,
    judge=judge,
    field="spec.run",
    remedy="remove them in a last step of spec.run",
    example={"allowed": ["/var/lib/app/.wget-hsts"]},
)
