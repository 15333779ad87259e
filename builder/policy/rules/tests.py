"""A recipe says itself what its image must do, in `spec.tests`; each test has passed when the gate is reached. This
rule asks that there are some.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, count
from builder.policy.strictness import HIGHEST, Parameters


class RecipeTests(Parameters):
    """How many tests a recipe must have."""

    minimum: Annotated[int, Field(ge=1, le=10_000), HIGHEST] = Field(
        default=1, description="How many tests must have passed."
    )


def judge(facts: Facts, parameters: RecipeTests) -> Judgement:
    passed = sum(one.passed for one in facts.tests)
    return Judgement(
        passed >= parameters.minimum and passed == len(facts.tests),
        f"{count(passed, 'test', 'tests')} of the recipe passed; the policy asks for {parameters.minimum}.",
    )


RULE = Rule(
    name="tests",
    title="The recipe has tests",
    parameters=RecipeTests,
    judge=judge,
    field="spec.tests",
    remedy="write down in spec.tests what the image must do",
    example={"minimum": 2},
)
