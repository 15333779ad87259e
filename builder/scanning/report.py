"""Trivy's JSON report (SchemaVersion 2): taken apart into findings, and stripped of what must not be stored."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from builder.scanning.errors import ScanReportInvalid
from builder.scanning.findings import (
    Findings,
    Misconfiguration,
    OperatingSystem,
    Secret,
    Severity,
    Text,
    Vulnerability,
)

SCHEMA_VERSION = 2
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

# Of an image's configuration only this is kept: the rest can hold environment values (Env, history, Cmd, OnBuild…).
_KEPT_OF_IMAGE_CONFIG = ("architecture", "created", "os", "rootfs", "variant")
_KEPT_OF_CONFIG = ("User", "Labels", "ExposedPorts", "WorkingDir", "StopSignal")
# Excerpts of files, with the lines around what was found, and build commands.
_DROPPED = frozenset({"Code", "Match", "Content", "Highlighted", "CreatedBy", "Offset", "RenderedCause"})


class _Part(BaseModel):
    """A part of the report. Unknown keys are no concern of ours; known ones must have their type."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", alias_generator=to_pascal)


class _Identifier(_Part):
    purl: Text | None = Field(default=None, alias="PURL")


class _Package(_Part):
    name: Text
    identifier: _Identifier = _Identifier()


class _Named(_Part):
    name: Text


class _Vulnerability(_Part):
    vulnerability_id: Text = Field(alias="VulnerabilityID", min_length=1)
    pkg_name: Text = Field(min_length=1)
    pkg_identifier: _Identifier = _Identifier()
    installed_version: Text = ""
    fixed_version: Text = ""
    status: Text = "unknown"
    severity: Severity = Field(strict=False)
    severity_source: Text | None = None
    title: Text | None = None
    data_source: _Named | None = None


class _Secret(_Part):
    rule_id: Text = Field(alias="RuleID")
    title: Text | None = None
    severity: Severity = Field(strict=False)
    start_line: int = 0


class _Misconfiguration(_Part):
    id: Text = Field(alias="ID")
    title: Text
    message: Text = ""
    resolution: Text | None = None
    severity: Severity = Field(strict=False)
    status: Text


class _Result(_Part):
    target: Text = ""
    packages: list[_Package] = []
    vulnerabilities: list[_Vulnerability] = []
    secrets: list[_Secret] = []
    misconfigurations: list[_Misconfiguration] = []


class _OperatingSystem(_Part):
    family: Text = ""
    name: Text = ""


class _Metadata(_Part):
    os: _OperatingSystem | None = Field(default=None, alias="OS")
    repo_digests: list[str] = []


class _Report(_Part):
    schema_version: int
    artifact_name: str
    metadata: _Metadata
    results: list[_Result] = []


@dataclass(frozen=True)
class Report:
    """A report that was understood. `document` is what may be stored; `inventory` is the same without findings."""

    findings: Findings
    package_count: int
    purls: frozenset[str]
    operating_system: OperatingSystem | None
    document: bytes
    inventory: bytes


def read_report(raw: bytes, reference: str) -> Report:
    """Understand and strip a report on `reference` (host/repository@sha256:…).

    Raises ScanReportInvalid when it is not JSON, not of SchemaVersion 2, not in the known form, or on another image.
    """
    document = _parse(raw)
    version = document.get("SchemaVersion")
    if version != SCHEMA_VERSION:
        raise ScanReportInvalid(
            f"Trivy's report has SchemaVersion {version!r:.40}; Goldsmith knows {SCHEMA_VERSION}",
            hint="install the Trivy version that this Goldsmith pins",
        )
    try:
        report = _Report.model_validate(document)
    except ValidationError as error:
        # The place and the rule only: an input could be a secret.
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)[:5]]
        raise ScanReportInvalid(f"Trivy's report is not in the known form: {'; '.join(faults)}") from None
    digest = reference.rpartition("@")[2]
    if not any(named.endswith(f"@{digest}") for named in report.metadata.repo_digests):
        raise ScanReportInvalid(f"Trivy's report is on {report.artifact_name!r:.200}, not on {reference}")
    strip(document)
    packages = [package for result in report.results for package in result.packages]
    return Report(
        findings=_findings(report),
        package_count=len(packages),
        purls=frozenset(package.identifier.purl for package in packages if package.identifier.purl),
        operating_system=_operating_system(report.metadata.os),
        document=_dump(document),
        inventory=_dump(_without_findings(document)),
    )


def _parse(raw: bytes) -> dict[str, Json]:
    try:
        document = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        place = f" at byte {error.pos} of {len(raw)}" if isinstance(error, json.JSONDecodeError) else ""
        raise ScanReportInvalid(
            f"Trivy's report is not JSON{place}: it is cut short or garbled",
            hint="check that the temporary directory has room, then scan again",
        ) from None
    if not isinstance(document, dict):
        raise ScanReportInvalid("Trivy's report is JSON but not an object")
    return document


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _dump(document: Json) -> bytes:
    # ASCII, so that a lone surrogate in a name cannot make the report impossible to encode.
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def strip(document: dict[str, Json]) -> None:
    """Take environment values, build commands and excerpts of files out of a report, in place."""
    metadata = document.get("Metadata")
    if isinstance(metadata, dict) and "ImageConfig" in metadata:
        kept = _keep(metadata["ImageConfig"], (*_KEPT_OF_IMAGE_CONFIG, "config"))
        kept["config"] = _keep(kept.get("config"), _KEPT_OF_CONFIG)
        metadata["ImageConfig"] = kept
    pending: list[Json] = [document.get("Results")]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            for key in _DROPPED & part.keys():
                del part[key]
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def _keep(part: Json, keys: tuple[str, ...]) -> dict[str, Json]:
    return {key: part[key] for key in keys if key in part} if isinstance(part, dict) else {}


def _without_findings(document: dict[str, Json]) -> dict[str, Json]:
    """Findings change with every database; a bill of materials says what is inside, once for all."""
    results = document.get("Results")
    kept = [
        {key: value for key, value in result.items() if key != "Vulnerabilities"}
        for result in (results if isinstance(results, list) else [])
        if isinstance(result, dict) and "Packages" in result
    ]
    return {**document, "Results": list[Json](kept)}


def _operating_system(found: _OperatingSystem | None) -> OperatingSystem | None:
    return OperatingSystem(family=found.family, name=found.name) if found and found.family else None


def _findings(report: _Report) -> Findings:
    results = report.results
    return Findings(
        vulnerabilities=tuple(_vulnerability(found, r.target) for r in results for found in r.vulnerabilities),
        secrets=tuple(
            Secret(rule=s.rule_id, title=s.title, severity=s.severity, target=r.target, line=s.start_line)
            for r in results
            for s in r.secrets
        ),
        misconfigurations=tuple(
            Misconfiguration(
                id=m.id,
                title=m.title,
                severity=m.severity,
                message=m.message,
                resolution=m.resolution,
                target=r.target,
            )
            for r in results
            for m in r.misconfigurations
            if m.status != "PASS"
        ),
    )


def _vulnerability(found: _Vulnerability, target: str) -> Vulnerability:
    return Vulnerability(
        id=found.vulnerability_id,
        package=found.pkg_name,
        installed=found.installed_version,
        fixed=found.fixed_version or None,
        severity=found.severity,
        severity_source=found.severity_source,
        status=found.status,
        title=found.title,
        purl=found.pkg_identifier.purl,
        target=target,
        data_source=found.data_source.name if found.data_source else None,
    )
