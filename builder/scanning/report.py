"""Trivy's JSON report (SchemaVersion 2): taken apart into findings, and stripped of what must not be stored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from builder.scanning.errors import ScanReportInvalid
from builder.scanning.findings import Findings, OperatingSystem, Package
from builder.scanning.form import TrivyReport

SCHEMA_VERSION = 2
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

# Of an image's configuration only this is kept: the rest can hold environment values (Env, history, Cmd, OnBuild…).
_KEPT_OF_IMAGE_CONFIG = ("architecture", "created", "os", "rootfs", "variant")
_KEPT_OF_CONFIG = ("User", "Labels", "ExposedPorts", "WorkingDir", "StopSignal")
# Excerpts of files, with the lines around what was found, and build commands.
_DROPPED = frozenset({"Code", "Match", "Content", "Highlighted", "CreatedBy", "Offset", "RenderedCause"})


@dataclass(frozen=True)
class Report:
    """A report that was understood. `document` is what may be stored; `inventory` is the same without findings."""

    findings: Findings
    packages: tuple[Package, ...]
    purls: frozenset[str]
    operating_system: OperatingSystem | None
    document: bytes
    inventory: bytes


def read_report(raw: bytes, reference: str) -> Report:
    """Understand and strip a report on `reference` (host/repository@sha256:…).

    Raises ScanReportInvalid when it is not JSON, not of SchemaVersion 2, not in the known form, or on another image.
    """
    document, report = _understand(raw)
    digest = reference.rpartition("@")[2]
    if not any(named.endswith(f"@{digest}") for named in report.metadata.repo_digests):
        raise ScanReportInvalid(f"Trivy's report is on {report.artifact_name!r:.200}, not on {reference}")
    strip(document)
    packages = report.packages()
    return Report(
        findings=report.findings(),
        packages=packages,
        purls=_purls(packages),
        operating_system=report.operating_system(),
        document=_dump(document),
        inventory=_dump(_without_findings(document)),
    )


def read_report_on_packages(raw: bytes, purls: frozenset[str]) -> Findings:
    """The findings in a report on a bill of materials that names `purls`. Raises ScanReportInvalid.

    Trivy passes over components that it does not know how to look up, so each must be in the report again.
    """
    _, report = _understand(raw)
    lacking = sorted(purls - {package.identifier.purl for result in report.results for package in result.packages})
    if lacking:
        raise ScanReportInvalid(
            f"Trivy passed over {len(lacking)} of {len(purls)} packages in a bill of materials, {lacking[0]} for one"
        )
    return report.findings()


def _purls(packages: Iterable[Package]) -> frozenset[str]:
    return frozenset(package.purl for package in packages if package.purl)


def _understand(raw: bytes) -> tuple[dict[str, Json], TrivyReport]:
    document = _parse(raw)
    version = document.get("SchemaVersion")
    if version != SCHEMA_VERSION:
        raise ScanReportInvalid(
            f"Trivy's report has SchemaVersion {version!r:.40}; Goldsmith knows {SCHEMA_VERSION}",
            hint="install the Trivy version that this Goldsmith pins",
        )
    try:
        return document, TrivyReport.model_validate(document)
    except ValidationError as error:
        # The place and the rule only: an input could be a secret.
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)[:5]]
        raise ScanReportInvalid(f"Trivy's report is not in the known form: {'; '.join(faults)}") from None


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
