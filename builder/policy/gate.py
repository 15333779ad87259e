"""The gate: a scan judged by a policy. A verdict says for each rule what held, what did not, and what to change."""

from __future__ import annotations

from collections.abc import Sequence

from builder.policy.policy import Policy, SeverityLimit
from builder.policy.verdict import Offender, RuleResult, Verdict
from builder.scanning.findings import Misconfiguration, ScanResult, Secret, Severity, Vulnerability

_LIMITS: dict[SeverityLimit, int] = {"none": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}
# Nobody has rated an UNKNOWN one yet. The worst are at first unrated too, so it weighs as much as they do.
_WEIGHTS = {
    Severity.LOW: 1,
    Severity.MEDIUM: 2,
    Severity.HIGH: 3,
    Severity.CRITICAL: 4,
    Severity.UNKNOWN: 4,
}
# Trivy's check for secrets in environment variables; it goes by their names, so it is a secret found, not a remark.
_SECRET_CHECKS = frozenset({"DS-0031"})


def evaluate(policy: Policy, scan: ScanResult, *, packages_built: int) -> Verdict:
    """Judge a scan of an image into which `packages_built` packages went.

    Raises nothing: whether a failed verdict is an error is for the caller to say (`GateFailed.of`).
    """
    rules = (
        _completeness(scan, packages_built),
        _vulnerabilities(policy, scan),
        _secrets(policy, scan),
        _configuration(scan),
    )
    return Verdict(
        passed=all(rule.passed for rule in rules),
        reference=scan.reference,
        rules=rules,
        sample_database=scan.database.sample,
        database_digest=scan.database.digest,
    )


def _completeness(scan: ScanResult, packages_built: int) -> RuleResult:
    """A scanner that overlooks packages, or sees none at all, says nothing about an image."""
    seen = scan.package_count
    complete = seen > 0 and seen >= packages_built
    return RuleResult(
        rule="completeness",
        field="spec.packages",
        passed=complete,
        explanation=(
            f"The scanner saw {_count(range(seen), 'package', 'packages')}."
            if complete
            else f"The scanner saw {_count(range(seen), 'package', 'packages')} where {max(1, packages_built)} or more "
            "must be: what it did not see, it cannot vouch for."
        ),
    )


def _vulnerabilities(policy: Policy, scan: ScanResult) -> RuleResult:
    found = scan.findings.vulnerabilities
    worse = [v for v in found if _WEIGHTS[v.severity] > _LIMITS[policy.maximum_severity]]
    ignored = [v for v in worse if policy.ignore_unfixed and v.fixed is None]
    offending = [v for v in worse if not (policy.ignore_unfixed and v.fixed is None)]
    offending.sort(key=lambda v: (-_WEIGHTS[v.severity], v.package, v.id))
    limit = "no vulnerability" if policy.maximum_severity == "none" else f"nothing above {policy.maximum_severity}"
    if offending:
        fixable = sum(v.fixed is not None for v in offending)
        explanation = (
            f"{_count(offending, 'vulnerability', 'vulnerabilities')} of {len(found)} found "
            f"{'is' if len(offending) == 1 else 'are'} worse than the policy allows ({limit}); an upgrade fixes "
            f"{fixable}."
        )
    else:
        explanation = f"The policy allows {limit}, and of {len(found)} vulnerabilities found none is worse."
    if ignored:
        explanation += f" {len(ignored)} without a fix {'was' if len(ignored) == 1 else 'were'} ignored, as it says."
    return RuleResult(
        rule="vulnerabilities",
        field="spec.policy.maximumSeverity",
        passed=not offending,
        explanation=explanation,
        offenders=tuple(_offending_vulnerability(v) for v in offending),
    )


def _offending_vulnerability(found: Vulnerability) -> Offender:
    if found.fixed is not None:
        remedy = f"upgrade {found.package} {found.installed} to {found.fixed}"
    else:
        needed = "critical" if found.severity is Severity.UNKNOWN else found.severity.lower()
        remedy = (
            f"no fix yet: remove {found.package}, set spec.policy.ignoreUnfixed, or raise spec.policy.maximumSeverity "
            f"to {needed}"
        )
    return Offender(
        id=found.id, severity=found.severity, subject=f"{found.package} {found.installed}".strip(), remedy=remedy
    )


def _secrets(policy: Policy, scan: ScanResult) -> RuleResult:
    offenders = (
        *(_secret_in_file(secret) for secret in scan.findings.secrets),
        *(_secret_in_environment(check) for check in scan.findings.misconfigurations if check.id in _SECRET_CHECKS),
    )
    if not offenders:
        explanation = "No secrets were found."
    elif policy.allow_secrets:
        explanation = f"{_count(offenders, 'secret was', 'secrets were')} found and allowed by the policy."
    else:
        explanation = f"{_count(offenders, 'secret was', 'secrets were')} found; whoever pulls an image can read it."
    return RuleResult(
        rule="secrets",
        field="spec.policy.allowSecrets",
        passed=policy.allow_secrets or not offenders,
        explanation=explanation,
        offenders=offenders,
    )


def _secret_in_file(found: Secret) -> Offender:
    return Offender(
        id=found.rule,
        severity=found.severity,
        subject=f"{found.target}, line {found.line}",
        remedy="take it out of the image, replace it where it is used, or set spec.policy.allowSecrets if it is none",
    )


def _secret_in_environment(found: Misconfiguration) -> Offender:
    return Offender(
        id=found.id,
        severity=found.severity,
        subject=f"the image's environment: {found.message}",
        remedy="take it out of spec.environment and pass it when a container starts",
    )


def _configuration(scan: ScanResult) -> RuleResult:
    remarks = [check for check in scan.findings.misconfigurations if check.id not in _SECRET_CHECKS]
    explanation = (
        f"{_count(remarks, 'remark', 'remarks')} on the image's configuration, recorded but not held against it."
        if remarks
        else "There is nothing to remark on the image's configuration."
    )
    return RuleResult(
        rule="configuration",
        field=None,
        passed=True,
        explanation=explanation,
        offenders=tuple(
            Offender(
                id=check.id, severity=check.severity, subject=check.title, remedy=check.resolution or check.message
            )
            for check in remarks
        ),
    )


def _count(things: Sequence[object], one: str, many: str) -> str:
    number = len(things)
    return f"{number} {one if number == 1 else many}"
