"""A key in an image is everybody's who pulls it (CIS Docker benchmark, 4.10). This rule goes by where keys and
credentials lie; `secrets` looks into files.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, judge_paths
from builder.policy.strictness import ALLOWED, Parameters


class Keys(Parameters):
    """Which of them may be there."""

    allowed: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Paths that may be there; `*` stands for anything."
    )


def judge(facts: Facts, parameters: Keys) -> Judgement:
    return judge_paths(
        facts.files.private_keys if facts.files else None,
        "private keys or credentials",
        parameters.allowed,
        RULE.remedy,
    )


RULE = Rule(
    name="keys",
    title="No stray private keys or credentials",
    parameters=Keys,
    judge=judge,
    field="spec.files",
    remedy="take them out of the image; mount them where a container runs",
    example={"allowed": ["/etc/ssl/private/ssl-cert-snakeoil.key"]},
)
