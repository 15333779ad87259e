"""The distribution had a newer version of an installed package when the image was built, and the image has the old
one: its lock is out of date. The build worker asks the archive only when a policy names this rule. Where the
archive cannot be asked, or an image is of no suite of Debian or does not say what is installed, nobody knows, and the
rule fails.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, count, unknown
from builder.policy.strictness import LOWEST, NO, Parameters
from builder.policy.verdict import Offender

_UNKNOWN = (
    "the step `updates` of the build's log says why: build where the distribution's archive can be reached, on a base "
    "of Debian that says its suite and what is installed, with a build worker that has this policy (GOLDSMITH_POLICY)"
)
_REMEDY = "take a new lock (`goldsmith recipe lock`), or build with --update"


class Updates(Parameters):
    """How many pending updates may be released."""

    security_only: Annotated[bool, NO] = Field(
        default=True, description="Count those from the security archive only; `false` counts every update."
    )
    maximum: Annotated[int, Field(ge=0, le=100_000), LOWEST] = Field(default=0, description="How many may be pending.")


def judge(facts: Facts, parameters: Updates) -> Judgement:
    if facts.updates is None:
        return unknown("pending updates", _UNKNOWN)
    pending = [one for one in facts.updates if one.security or not parameters.security_only]
    kind = "security update" if parameters.security_only else "update"
    offenders = tuple(
        Offender(id=one.package, subject=f"{one.installed}, the archive has {one.available}", remedy=_REMEDY)
        for one in pending
    )
    verb = "was" if len(pending) == 1 else "were"
    return Judgement(
        len(pending) <= parameters.maximum,
        f"{count(pending, kind, kind + 's')} of the distribution {verb} pending when the image was built; the policy "
        f"allows {parameters.maximum}.",
        offenders,
    )


RULE = Rule(
    name="updates",
    title="No updates of the distribution are pending",
    parameters=Updates,
    judge=judge,
    field="spec.packages",
    remedy=_REMEDY,
    example={"securityOnly": True, "maximum": 0},
)
