"""A service that runs as root breaks out as root (CIS Docker benchmark, 4.1). The image must name a user, with a
number above the limit. A name that /etc/passwd does not have is nobody, and fails.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, unknown
from builder.policy.strictness import HIGHEST, Parameters


class User(Parameters):
    """Whom a container runs as."""

    minimum_uid: Annotated[int, Field(ge=1, le=4294967294), HIGHEST] = Field(
        default=1, description="The lowest uid that is allowed; 1 is anybody but root."
    )


def judge(facts: Facts, parameters: User) -> Judgement:
    if facts.image is None:
        return unknown("the image's user", "build the image again: its configuration was not read")
    image = facts.image
    if image.uid is None:
        written = f"is {image.user!r}, whose uid nobody knows" if image.user else "is not set, which means root"
        return Judgement(False, f"The image's user {written}.")
    allowed = image.uid >= parameters.minimum_uid
    return Judgement(
        allowed, f"Containers run as uid {image.uid}; the policy asks for {parameters.minimum_uid} or more."
    )


RULE = Rule(
    name="user",
    title="Containers do not run as root",
    parameters=User,
    judge=judge,
    field="spec.user",
    remedy="add an account in spec.users and name it, by number, in spec.user",
    example={"minimumUid": 10000},
)
