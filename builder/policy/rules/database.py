"""A scan is as good as its database is fresh. The installation refuses a database older than its limit
(`GOLDSMITH_TRIVY_DATABASE_HOURS`); a policy can ask for a fresher one, or let an old one pass with a warning where
an installation has no other. One whose date is still to come would never get old, and counts as too old.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import CLOCKS_DIFFER, Judgement, Rule
from builder.policy.strictness import LOWEST, Parameters, ranked


class Database(Parameters):
    """How old the vulnerability database may be."""

    maximum_age_hours: Annotated[int | None, Field(ge=1, le=87_600), LOWEST] = Field(
        default=None, description="Its age in hours; without one the installation's own limit holds alone."
    )
    when_stale: Annotated[Literal["fail", "warn"], ranked("fail", "warn")] = Field(
        default="fail", description="`warn` releases although the database is too old, and says so in the verdict."
    )


def judge(facts: Facts, parameters: Database) -> Judgement:
    database = facts.database
    age, limit = facts.gathered_at - database.updated_at, parameters.maximum_age_hours
    told = f"The vulnerability database is of {database.updated_at:%Y-%m-%d %H:%M} UTC"
    too_old = limit is not None and age > timedelta(hours=limit)
    to_come = age < -CLOCKS_DIFFER
    if not (too_old or to_come or database.stale):
        return Judgement(True, f"{told}.")
    if to_come:
        why = "which is still to come, so that nobody knows how old it is"
    else:
        why = f"older than {f'the {limit} hours that the policy' if too_old else 'this installation'} allows"
    if parameters.when_stale == "warn":
        return Judgement(True, f"WARNING: {told}, {why}; the policy lets that pass.")
    return Judgement(False, f"{told}, {why}.")


RULE = Rule(
    name="database",
    title="The vulnerability database is fresh",
    parameters=Database,
    judge=judge,
    field=None,
    remedy="have the operator update the database (`goldsmith database update`), then build again",
    always=True,
    example={"maximumAgeHours": 24},
)
