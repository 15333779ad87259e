"""Where a policy names this rule, the build worker assembles the image a second time, from the same lock in a fresh
container, before it stages anything, and compares the digests of the manifests. It takes about as long as the first
time.
"""

from __future__ import annotations

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, NoParameters, Rule, unknown


def judge(facts: Facts, _: NoParameters) -> Judgement:
    if facts.reproduced is None:
        return unknown(
            "whether the image reproduces", "build with a build worker that has this policy (GOLDSMITH_POLICY)"
        )
    if facts.reproduced:
        return Judgement(True, "A second assembly from the same lock gave the same digest.")
    return Judgement(False, "A second assembly from the same lock gave another digest.")


RULE = Rule(
    name="reproducible",
    title="The image reproduces bit for bit",
    parameters=NoParameters,
    judge=judge,
    field="spec.run",
    remedy="find the step that reads the clock, a random source or the network: the build's log names what differs",
)
