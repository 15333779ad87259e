"""An old base has old faults. Its age is counted from the newest content in it, not from the day it was built: an
old lock gives an old base, however often it is built. Of an image that is not Goldsmith's it is what the image says of
itself; one that is still to come is none.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import CLOCKS_DIFFER, Judgement, Rule, unknown
from builder.policy.strictness import LOWEST, Parameters


class BaseAge(Parameters):
    """How old the base may be."""

    maximum_days: Annotated[int, Field(ge=0, le=36_500), LOWEST] = Field(default=90, description="Its age in days.")


def judge(facts: Facts, parameters: BaseAge) -> Judgement:
    if facts.base is None or facts.base.created is None:
        return unknown("the base's age", "start from an image that says when it was created")
    age = facts.gathered_at - facts.base.created
    if age < -CLOCKS_DIFFER:
        return unknown("the base's age", "start from an image whose time of creation is not still to come")
    return Judgement(
        age <= timedelta(days=parameters.maximum_days),
        f"The newest content of the base is of {facts.base.created:%Y-%m-%d}, {age.days} days old; the policy allows "
        f"{parameters.maximum_days}.",
    )


RULE = Rule(
    name="baseAge",
    title="The base is not too old",
    parameters=BaseAge,
    judge=judge,
    field="spec.base",
    remedy="build the base anew from a new lock, then this image on it (`goldsmith build --update`)",
    example={"maximumDays": 30},
)
