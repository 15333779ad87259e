"""A finding of today against the policy of today: the organisation's as it is now, tightened by the released recipe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from builder.policy.effective import effective
from builder.policy.exceptions import PolicyException, matching
from builder.policy.organisation import OrganisationPolicy
from builder.policy.rules.vulnerabilities import Vulnerabilities, offends
from builder.recipes.model import Recipe
from builder.scanning.findings import Vulnerability
from builder.store.findings import Seen


def limits_of(organisation: OrganisationPolicy, recipe: Recipe) -> Vulnerabilities:
    """What is demanded of the vulnerabilities in a recipe's images."""
    demanded = effective(organisation, recipe.metadata.name, recipe.spec.policy).demands
    return demanded.vulnerabilities or Vulnerabilities()


def rejudged(
    found: Vulnerability,
    limits: Vulnerabilities,
    exceptions: Sequence[PolicyException],
    *,
    recipe: str,
    digest: str,
    now: datetime,
) -> Seen:
    """What is to be noted of a finding. An exception that has expired holds for nothing."""
    allowed = not offends(found, limits)
    exception = None if allowed else matching(exceptions, found, recipe=recipe, digest=digest, now=now)
    return Seen(
        vulnerability=found.id,
        package=found.package,
        installed=found.installed,
        fixed=found.fixed,
        severity=found.severity,
        purl=found.purl,
        above_policy=not allowed and exception is None,
        exception=exception.id if exception else None,
    )
