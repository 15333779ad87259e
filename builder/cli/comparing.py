"""A container against its golden image: the inventory that was signed, and what the engine exports."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from pydantic import BaseModel, ValidationError
from rich.text import Text

from builder.cli.evidence import Evidence
from builder.cli.output import say, styled
from builder.cli.provenance import print_trust
from builder.cli.verifying import Verification, verification_data
from builder.engine.faults import EngineUnavailable
from builder.errors import Rejected
from builder.forensics.compare import compare
from builder.forensics.expected import Expectation, expected_reason
from builder.forensics.findings import Difference, Finding, Outcome, Severity, Verdict, verdict_of
from builder.forensics.subjects.archive import entries_of_archive
from builder.forensics.subjects.container import Container, export_container, find_container
from builder.image.entry import Entry, shown
from builder.image.inventory import open_inventory

_SHOWN = 200
_VERDICTS = {
    Verdict.IDENTICAL: ("identical to its golden image", "bold green"),
    Verdict.EXPECTED: ("expected changes only", "bold green"),
    Verdict.DRIFTED: ("DRIFTED from its golden image", "bold red"),
    Verdict.SUSPICIOUS: ("SUSPICIOUS: changed gravely", "bold red"),
}


class NotCompared(Rejected):
    slug = "not-compared"
    title = "The container could not be compared"


class _Runtime(BaseModel):
    writable: list[str] = []


class _Spec(BaseModel):
    runtime: _Runtime = _Runtime()


class _SignedRecipe(BaseModel):
    """The part of a recipe that a comparison needs; the rest of it may be of a later version."""

    spec: _Spec = _Spec()


@dataclass(frozen=True)
class Comparison:
    """`mounts` are the places in the container that are not part of its file system, and so were not looked at."""

    container: Container
    verification: Verification
    report: Outcome
    mounts: tuple[str, ...]

    @property
    def drifted(self) -> bool:
        return verdict_of(self.report) in (Verdict.DRIFTED, Verdict.SUSPICIOUS)

    @property
    def of_image(self) -> bool:
        """Whether the engine says that the container was made from this image."""
        return any(one.endswith(f"@{self.verification.digest}") for one in self.container.repo_digests)


def compare_container(engine_url: str, name: str, evidence: Evidence, verification: Verification) -> Comparison:
    """Raises NotCompared, ContainerUnknown, EngineUnavailable, and what reading inventory or archive raises."""
    digest = _inventory_digest(verification)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "inventory"
        engine = _engine(engine_url)
        try:
            container = find_container(engine, name)
            mounts = _mounts(engine, container)
            evidence.inventory(digest, file)
            entries = entries_of_archive(export_container(engine, container))
        finally:
            engine.close()
        with open_inventory(file) as (_, records):
            report = compare(records, entries, judge=_judge(_expectations(verification)))
    return Comparison(container, verification, report, mounts)


def _judge(expectations: Sequence[Expectation]) -> Callable[[Difference], Finding]:
    def judge(one: Difference) -> Finding:
        reason = expected_reason(one.path, one.golden, one.subject, expectations)
        return Finding(one, Severity.MEDIUM, "drift", "it is not as its golden image says", expected=reason)

    return judge


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """As JSON, docs/cli.md."""
    report = comparison.report
    return {
        "verdict": str(verdict_of(report)),
        "container": {
            "id": comparison.container.id,
            "name": comparison.container.name,
            "state": comparison.container.state,
            "ofThisImage": comparison.of_image,
            "notComparedMounts": list(comparison.mounts),
        },
        "goldenEntries": report.golden_entries,
        "containerEntries": report.subject_entries,
        "driftTotal": report.findings_total,
        "expectedTotal": report.expected_total,
        "counts": {str(kind): count for kind, count in sorted(report.by_kind.items())},
        "drift": [_difference_data(one) for one in report.findings],
        "expected": [_difference_data(one) for one in report.expected],
        "verification": verification_data(comparison.verification),
    }


def print_comparison(comparison: Comparison) -> None:
    report, container = comparison.report, comparison.container
    _print_differences("drift", report.findings, report.findings_total, "red")
    _print_differences("expected", report.expected, report.expected_total, "dim")
    verdict, style = _VERDICTS[verdict_of(report)]
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(report.by_kind.items()))
    say(f"compared    {report.subject_entries} paths of {container.name} with {report.golden_entries} golden ones")
    drifted = f"{report.findings_total} drifted{f' ({counts})' if counts else ''}"
    say(f"found       {drifted}, {report.expected_total} expected")
    if comparison.mounts:
        say(styled(f"NOT compared, for it is mounted over the image: {', '.join(comparison.mounts)}", "yellow"))
    if not comparison.of_image:
        say(styled("The engine does not say that this container was made from that image.", "yellow"))
    print_trust(comparison.verification)
    say(styled(f"{container.name}: {verdict}", style))


def _print_differences(name: str, findings: tuple[Finding, ...], total: int, style: str) -> None:
    for finding in findings[:_SHOWN]:
        one = finding.difference
        kinds = ",".join(one.kinds)
        why = f"  ({finding.expected})" if finding.expected else ""
        package = f"  [{one.package.name} {one.package.version}]" if one.package else ""
        say(styled(f"{name:<9} {kinds:<13} {shown(one.path)}{why}{package}", style))
        if one.golden is not None and one.subject is not None:
            say(Text(" " * 24), f"{_described(one.golden, one)} -> {_described(one.subject, one)}")
    if total > _SHOWN:
        say(f"{name:<9} … and {total - _SHOWN} more; --json lists up to {len(findings)}")
    if total:
        say()


def _described(entry: Entry, difference: Difference) -> str:
    """What differs, and no more."""
    parts: dict[str, str] = {
        "type": entry.type,
        "content": f"sha256:{(entry.sha256 or '')[:16]}… {entry.size} bytes" if entry.sha256 else "no content",
        "link": f"to {shown(entry.target)[1:]}" if entry.target is not None else str(entry.type),
        "mode": f"{entry.mode:04o}",
        "owner": f"{entry.uid}:{entry.gid}",
        "xattr": f"{len(entry.xattrs)} attributes",
        "device": f"device {entry.device}",
    }
    return ", ".join(parts[kind] for kind in difference.kinds if kind in parts)


def _difference_data(finding: Finding) -> dict[str, Any]:
    one = finding.difference
    return {
        "path": shown(one.path),
        "kinds": [str(kind) for kind in one.kinds],
        "before": _entry_data(one.golden),
        "after": _entry_data(one.subject),
        "package": f"{one.package.name}={one.package.version}" if one.package else None,
        "expected": finding.expected,
    }


def _entry_data(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {
        "type": str(entry.type),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "sha256": entry.sha256,
        "target": shown(entry.target)[1:] if entry.target is not None else None,
    }


def _inventory_digest(verification: Verification) -> str:
    """The digest of the inventory, from what was signed."""
    assert verification.provenance is not None, "only what verified is compared with"
    for made in verification.provenance.run_details.byproducts:
        if made.name == "inventory" and made.digest and "sha256" in made.digest:
            return f"sha256:{made.digest['sha256']}"
    raise NotCompared(f"the provenance of {verification.image} names no inventory")


def _expectations(verification: Verification) -> list[Expectation]:
    """Where the recipe says that containers write: from what was signed, so nobody can widen it afterwards."""
    assert verification.provenance is not None, "only what verified is compared with"
    recipe = verification.provenance.build_definition.external_parameters.get("recipe")
    try:
        signed = _SignedRecipe.model_validate(recipe)
    except ValidationError as error:
        raise NotCompared(f"the recipe in the provenance of {verification.image} cannot be read") from error
    return [
        Expectation(path.strip("/") + "/**", "the recipe says that containers write here")
        for path in signed.spec.runtime.writable
    ]


def _engine(url: str) -> docker.DockerClient:
    try:
        return docker.DockerClient(base_url=url, timeout=120, version="auto")
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineUnavailable(
            f"no Docker Engine answers at {url}", hint="start it, or name another with --engine"
        ) from error


def _mounts(engine: docker.DockerClient, container: Container) -> tuple[str, ...]:
    try:
        found = engine.api.inspect_container(container.id)["Mounts"]
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineUnavailable(f"the container engine does not answer: {error}") from error
    return tuple(sorted(f"{mount['Destination']} ({mount['Type']})" for mount in found))
