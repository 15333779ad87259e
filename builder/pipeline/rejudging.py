"""A finding of today against the policy that the image was released by: its limits stand in the record of its scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from builder.pipeline.evidence import ScanEvidence
from builder.policy.exceptions import PolicyException, matching
from builder.recipes.model import Recipe
from builder.scanning.findings import Severity, Vulnerability
from builder.store.findings import Seen

_LIMITS = ("none", "low", "medium", "high", "critical")
# Nobody has rated an UNKNOWN one yet. The worst are at first unrated too, so it weighs as much as they do.
_WEIGHTS = {
    Severity.LOW: 1,
    Severity.MEDIUM: 2,
    Severity.HIGH: 3,
    Severity.CRITICAL: 4,
    Severity.UNKNOWN: 4,
}


@dataclass(frozen=True)
class Limits:
    """The worst severity that was allowed, of what has a fix and of what has none."""

    fixable: str
    unfixed: str

    @classmethod
    def of(cls, scanned: ScanEvidence, recipe: Recipe) -> Limits:
        """As the rule was judged; of a scan that did not record it, as the recipe says."""
        judged = next((rule.parameters for rule in scanned.verdict.rules if rule.rule == "vulnerabilities"), {})
        own = recipe.spec.policy
        fixable = _known(judged.get("maximumSeverity"), own.maximum_severity)
        unfixed = "critical" if own.ignore_unfixed else fixable
        return cls(fixable, _known(judged.get("maximumSeverityUnfixed"), unfixed))

    def allow(self, found: Vulnerability) -> bool:
        limit = self.fixable if found.fixed is not None else self.unfixed
        return _WEIGHTS[found.severity] <= _LIMITS.index(limit)


def rejudged(
    found: Vulnerability,
    limits: Limits,
    exceptions: Sequence[PolicyException],
    *,
    recipe: str,
    digest: str,
    now: datetime,
) -> Seen:
    """What is to be noted of a finding. An exception that has expired holds for nothing."""
    allowed = limits.allow(found)
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


def _known(value: object, otherwise: str) -> str:
    return value if isinstance(value, str) and value in _LIMITS else otherwise
