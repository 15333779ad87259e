"""A report as SARIF 2.1.0, for tools that collect findings. What is expected is there too, as suppressed."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import quote_from_bytes

from builder.forensics.report import ConfigurationTold, FindingTold, Report

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
# What code scanning services sort by: the CVSS scale.
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.5", "info": "0.0"}


def sarif_text(report: Report) -> str:
    return json.dumps(sarif(report), indent=2, ensure_ascii=True) + "\n"


def sarif(report: Report) -> dict[str, Any]:
    told: list[FindingTold | ConfigurationTold] = [*report.findings, *report.configuration, *report.expected]
    rules: dict[str, FindingTold | ConfigurationTold] = {}
    for one in told:
        rules.setdefault(one.rule, one)
    ids = list(rules)
    run = {
        "tool": {
            "driver": {
                "name": report.tool.name,
                "version": report.tool.version,
                "rules": [_rule(one) for one in rules.values()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "startTimeUtc": report.times.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "endTimeUtc": report.times.finished.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "toolExecutionNotifications": [
                    {"level": "warning", "message": {"text": f"Not looked at: {one}"}} for one in report.unproven
                ],
            }
        ],
        "originalUriBaseIds": {
            "SUBJECT": {"description": {"text": f"The root file system of the {report.subject.kind}."}}
        },
        "automationDetails": {"id": f"goldsmith-compare/{report.golden.digest}/"},
        "results": [_result(one, ids.index(one.rule)) for one in told],
        "properties": {
            "verdict": str(report.verdict),
            "complete": report.complete,
            "golden": report.golden.digest,
            "subject": report.subject.name,
            "findingsTotal": report.totals.findings,
            "expectedTotal": report.totals.expected,
        },
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(one: FindingTold | ConfigurationTold) -> dict[str, Any]:
    return {
        "id": one.rule,
        "shortDescription": {"text": one.reason},
        "defaultConfiguration": {"level": _LEVELS[one.severity]},
        "properties": {"security-severity": _SCORES[one.severity], "tags": ["security", "drift"]},
    }


def _result(one: FindingTold | ConfigurationTold, rule: int) -> dict[str, Any]:
    what = one.path if isinstance(one, FindingTold) else one.member
    how = (
        ", ".join(one.kinds)
        if isinstance(one, FindingTold)
        else f"{one.golden or 'not set'} -> {one.subject or 'not set'}"
    )
    result: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": rule,
        "level": _LEVELS[one.severity],
        "message": {"text": f"{what} ({how}): {one.reason}"},
        "locations": [_location(one)],
        "partialFingerprints": {"goldsmithFinding/v1": _fingerprint(one)},
        "properties": {"severity": one.severity},
    }
    if one.expected is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": one.expected}]
    return result


def _location(one: FindingTold | ConfigurationTold) -> dict[str, Any]:
    if isinstance(one, ConfigurationTold):
        return {"logicalLocations": [{"fullyQualifiedName": one.member, "kind": "member"}]}
    return {"physicalLocation": {"artifactLocation": {"uri": quote_from_bytes(_bytes(one)), "uriBaseId": "SUBJECT"}}}


def _fingerprint(one: FindingTold | ConfigurationTold) -> str:
    what = _bytes(one) if isinstance(one, FindingTold) else one.member.encode()
    return hashlib.sha256(one.rule.encode() + b"\0" + what).hexdigest()


def _bytes(one: FindingTold) -> bytes:
    return base64.b64decode(one.path_base64) if one.path_base64 else one.path.removeprefix("/").encode()
