"""A scanner that overlooks packages, or has no advisories for the distribution, reports nothing, and nothing looks
like health. So the scanner must have seen every package that the package manager lists, and its database must know
this release of the distribution. Of a release that it does not know, or no longer, Trivy finds nothing and says so
only in a warning.
"""

from __future__ import annotations

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, NoParameters, Rule, count
from builder.policy.verdict import Offender
from builder.scanning.findings import OS_PACKAGES


def judge(facts: Facts, _: NoParameters) -> Judgement:
    seen, expected = facts.packages_seen, max(1, facts.packages_expected)
    if seen < expected:
        return Judgement(
            False,
            f"The scanner saw {count(seen, 'package', 'packages')} where {expected} or more must be: what it did not "
            "see, it cannot vouch for.",
        )
    system = facts.operating_system
    if facts.covered is False or (facts.covered is None and _needs_advisories(facts)):
        named = f"{system.family} {system.name}".strip() if system else "a system that does not say what it is"
        explanation = (
            f"The vulnerability database has no advisories for {named}, so that nothing was found in its packages "
            "means nothing."
        )
        remedy = (
            "start from a release that the database knows, or use a database that knows this one "
            "(GOLDSMITH_TRIVY_DATABASE)"
        )
        return Judgement(False, explanation, (Offender(id="unknown-release", subject=named, remedy=remedy),), remedy)
    told = f", of {system.family} {system.name}, which the database knows" if system and facts.covered else ""
    return Judgement(True, f"The scanner saw {count(seen, 'package', 'packages')}{told}.")


def _needs_advisories(facts: Facts) -> bool:
    return facts.packages_expected > 0 or any(one.target_class == OS_PACKAGES for one in facts.packages)


RULE = Rule(
    name="completeness",
    title="The scanner saw everything and has advisories for the release",
    parameters=NoParameters,
    judge=judge,
    field="spec.packages",
    remedy="keep dpkg's database in the image, and hide no packages from the scanner; of one that is installed for two "
    "architectures, which Trivy takes for one, keep one; then build again",
    always=True,
)
