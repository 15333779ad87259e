"""What a scan found, as SARIF 2.1.0, for tools that collect findings: vulnerabilities, secrets and misconfigurations.

Written here and not by Trivy: its writer crashes on a path that is no URI, and takes each licence for a finding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from builder.scanning.findings import (
    DatabaseIdentity,
    Findings,
    Misconfiguration,
    ScannerIdentity,
    Secret,
    Severity,
    Vulnerability,
)

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.UNKNOWN: "warning",
}
# What code scanning services sort by, for what has no score of its own: the CVSS scale.
_SCORES = {
    Severity.CRITICAL: 9.5,
    Severity.HIGH: 8.0,
    Severity.MEDIUM: 5.5,
    Severity.LOW: 2.0,
    Severity.UNKNOWN: 5.5,
}


@dataclass(frozen=True)
class _Found:
    """One finding in SARIF's terms. `where` is a path in the image, or `logical` a name where there is no file."""

    rule: str
    kind: str
    title: str
    severity: Severity
    message: str
    where: str | None
    logical: str
    line: int = 0
    score: float | None = None
    help_uri: str | None = None


def sarif(reference: str, findings: Findings, scanner: ScannerIdentity, database: DatabaseIdentity) -> bytes:
    """`reference` is the image by digest. The same findings give the same bytes."""
    found = [
        *(_vulnerability(one) for one in findings.vulnerabilities),
        *(_secret(one) for one in findings.secrets),
        *(_misconfiguration(one) for one in findings.misconfigurations),
    ]
    rules: dict[str, _Found] = {}
    for one in found:
        rules.setdefault(one.rule, one)
    numbers = {rule: number for number, rule in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "Trivy",
                "version": scanner.version,
                "rules": [_rule(one) for one in rules.values()],
            }
        },
        "automationDetails": {"id": f"goldsmith-scan/{reference.rpartition('@')[2]}/"},
        "originalUriBaseIds": {"IMAGE": {"description": {"text": "The root file system of the image."}}},
        "results": [_result(one, numbers[one.rule]) for one in found],
        "properties": {
            "image": reference,
            "scannerSha256": scanner.sha256,
            "databaseDigest": database.digest,
            "databaseUpdated": database.updated_at.isoformat(),
            "sampleDatabase": database.sample,
        },
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, separators=(",", ":")).encode("ascii")


def _vulnerability(one: Vulnerability) -> _Found:
    fixed = f"fixed in {one.fixed}" if one.fixed else f"no fix ({one.status})"
    return _Found(
        rule=one.id,
        kind="vulnerability",
        title=one.title or one.id,
        severity=one.severity,
        message=f"{one.package} {one.installed}: {one.title or one.id}; {fixed}",
        where=one.path,
        logical=one.purl or one.package,
        score=max((rated.score for rated in one.cvss if rated.score is not None), default=None),
        help_uri=_first_link(one.references),
    )


def _secret(one: Secret) -> _Found:
    in_file = one.target.startswith("/")
    return _Found(
        rule=one.rule,
        kind="secret",
        title=one.title or one.rule,
        severity=one.severity,
        message=f"{one.title or one.rule} in {one.target}",
        where=one.target if in_file else None,
        logical=one.target,
        line=one.line,
    )


def _misconfiguration(one: Misconfiguration) -> _Found:
    return _Found(
        rule=one.id,
        kind="misconfiguration",
        title=one.title,
        severity=one.severity,
        message=one.message or one.title,
        where=None,
        logical="the image's configuration",
        help_uri=_first_link(one.references),
    )


def _rule(one: _Found) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": one.rule,
        "shortDescription": {"text": one.title},
        "defaultConfiguration": {"level": _LEVELS[one.severity]},
        "properties": {
            "security-severity": f"{_SCORES[one.severity] if one.score is None else one.score:.1f}",
            "tags": ["security", one.kind],
        },
    }
    return rule | ({"helpUri": one.help_uri} if one.help_uri else {})


def _result(one: _Found, rule: int) -> dict[str, Any]:
    return {
        "ruleId": one.rule,
        "ruleIndex": rule,
        "level": _LEVELS[one.severity],
        "message": {"text": one.message},
        "locations": [_location(one)],
        "partialFingerprints": {"goldsmithScan/v1": _fingerprint(one)},
        "properties": {"severity": one.severity},
    }


def _location(one: _Found) -> dict[str, Any]:
    if one.where is None:
        return {"logicalLocations": [{"fullyQualifiedName": one.logical}]}
    uri = quote(one.where.removeprefix("/").encode("utf-8", "replace"))
    place: dict[str, Any] = {"artifactLocation": {"uri": uri, "uriBaseId": "IMAGE"}}
    if one.line > 0:
        place["region"] = {"startLine": one.line}
    return {"physicalLocation": place}


def _fingerprint(one: _Found) -> str:
    parts = (one.rule, one.where or "", one.logical, str(one.line))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def _first_link(references: Iterable[str]) -> str | None:
    """Advisories are written by many hands: only a plain link is passed on."""
    return next((one for one in references if one.startswith("https://") and not set(one) & set(' "<>\\^`{|}')), None)
