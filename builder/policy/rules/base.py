"""What an image may start from. A base is written as `recipe:NAME` for a recipe's release, `debian:SUITE` for one
that is bootstrapped, or `image:HOST/REPOSITORY@sha256:…`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import BaseFacts, Facts
from builder.policy.rule import Judgement, Rule, matches, unknown
from builder.policy.strictness import ALLOWED, DENIED, Parameters


class BaseLimits(Parameters):
    """Bases; `*` stands for anything."""

    allow: Annotated[list[str] | None, ALLOWED] = Field(
        default=None, description="Only these; when left out, all that `deny` does not name."
    )
    deny: Annotated[list[str], DENIED] = Field(default=[], description="None of these, though `allow` names them too.")


def judge(facts: Facts, parameters: BaseLimits) -> Judgement:
    if facts.base is None:
        return unknown("the image's base", "build the image again: its lock was not read")
    name = named(facts.base)
    denied = matches(name, parameters.deny)
    allowed = not denied and (parameters.allow is None or matches(name, parameters.allow))
    return Judgement(allowed, f"The image starts from {name}, which the policy {'allows' if allowed else 'refuses'}.")


def named(base: BaseFacts) -> str:
    if base.recipe is not None:
        return f"recipe:{base.recipe}"
    return f"image:{base.image}" if base.image is not None else f"debian:{base.suite}"


RULE = Rule(
    name="base",
    title="Only allowed bases",
    parameters=BaseLimits,
    judge=judge,
    field="spec.base",
    remedy="start from a base that the policy allows",
    example={"allow": ["recipe:*", "debian:trixie"]},
)
