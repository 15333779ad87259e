"""An engine restarts what says of itself that it is ill (CIS Docker benchmark, 4.6). Name this rule where engines
use health checks of images; orchestrators have probes of their own and ignore them.
"""

from __future__ import annotations

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, NoParameters, Rule, unknown


def judge(facts: Facts, _: NoParameters) -> Judgement:
    if facts.image is None:
        return unknown("the image's health check", "build the image again: its configuration was not read")
    has = facts.image.healthcheck
    return Judgement(has, "The image has a health check." if has else "The image has no health check.")


RULE = Rule(
    name="healthcheck",
    title="The image has a health check",
    parameters=NoParameters,
    judge=judge,
    field="spec.healthcheck",
    remedy="give a command in spec.healthcheck",
)
