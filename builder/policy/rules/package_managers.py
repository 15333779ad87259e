"""A container that can install is not what was built and scanned. Name this rule for images that nobody builds
upon: `hardening.removePackageManager` takes apt and dpkg away, and leaves dpkg's database to scanners.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, judge_paths
from builder.policy.strictness import ALLOWED, Parameters


class PackageManagers(Parameters):
    """Which of them may be there."""

    allowed: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Paths that may be there; `*` stands for anything."
    )


def judge(facts: Facts, parameters: PackageManagers) -> Judgement:
    return judge_paths(
        facts.files.package_managers if facts.files else None, "package managers", parameters.allowed, RULE.remedy
    )


RULE = Rule(
    name="packageManagers",
    title="No package manager",
    parameters=PackageManagers,
    judge=judge,
    field="spec.hardening.removePackageManager",
    remedy="set spec.hardening.removePackageManager; take pip, npm and the like out of spec.packages",
    example={"allowed": ["/usr/bin/dpkg"]},
)
