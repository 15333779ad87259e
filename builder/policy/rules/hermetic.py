"""What a step fetches from the network is in no lock: nobody can say later what it was. A hermetic build follows
from its locked materials alone.
"""

from __future__ import annotations

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, NoParameters, Rule, unknown


def judge(facts: Facts, _: NoParameters) -> Judgement:
    if facts.hermetic is None:
        return unknown("whether the build was hermetic", "build the image again")
    if facts.hermetic:
        return Judgement(True, "The build was hermetic: no step had a network or a secret.")
    return Judgement(False, "The build was not hermetic: a step had a network or a secret.")


RULE = Rule(
    name="hermetic",
    title="The build had no network",
    parameters=NoParameters,
    judge=judge,
    field="spec.run",
    remedy="bring what the step fetches as packages or files, and take `network` off it, and `secrets`",
)
