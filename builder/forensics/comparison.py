"""A whole comparison: a subject against a golden inventory that was verified before, judged, as a report.

Who verified, and where inventory and subject come from, is for the caller to say. Nothing here trusts either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder import __version__
from builder.forensics.compare import compare
from builder.forensics.configuration import GoldenConfiguration, judge_configuration
from builder.forensics.expected import Expectation, mount_points, writable
from builder.forensics.findings import Outcome
from builder.forensics.judging import judge_with
from builder.forensics.mounts import mounted
from builder.forensics.report import (
    Golden,
    Report,
    SubjectTold,
    Times,
    Tool,
    VerifiedBy,
    configuration_told,
    findings_told,
    totals_told,
    verdict_told,
)
from builder.forensics.rules import Rule
from builder.forensics.subjects.subject import Described, Subject, SubjectKind, golden_part
from builder.image.inventory import open_inventory


@dataclass(frozen=True)
class GoldenImage:
    """What a subject is compared with, all of it verified. `unproven` says what of it could not be had."""

    image: str
    digest: str
    inventory_digest: str
    configuration: GoldenConfiguration
    verified: VerifiedBy
    configuration_digest: str | None = None
    unproven: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """`outcome` has the findings as they are, for keeping evidence; the report has them as they are told."""

    outcome: Outcome
    report: Report


def compare_subject(
    golden: GoldenImage,
    inventory: Path,
    subject: Subject,
    rules: Sequence[Rule],
    *,
    directory: Path,
    rules_digest: str | None = None,
    keep: int = 10_000,
) -> Comparison:
    """Compare, to the end or not at all. `inventory` has the digest that was signed; `directory` is for spilled files.

    Raises InventoryInvalid, OutOfOrder, and what reading the subject raises.
    """
    started = datetime.now(UTC)
    inspected = subject.configuration
    judge = judge_with(rules, _expectations(golden.configuration, inspected))
    with open_inventory(inventory) as (_, records), subject.entries(directory) as entries:
        outcome = compare(golden_part(records, subject), entries, judge=judge, keep=keep)
    configuration = judge_configuration(inspected, golden.configuration) if inspected is not None else ()
    # What was not looked at is known only now that all has been read.
    unproven = (*subject.unproven, *(golden.unproven if inspected is not None else ()))
    described = subject.described
    report = Report(
        verdict=verdict_told(outcome, configuration, complete=not unproven),
        complete=not unproven,
        unproven=unproven,
        golden=Golden(
            image=golden.image,
            digest=golden.digest,
            inventory_digest=golden.inventory_digest,
            configuration_digest=golden.configuration_digest,
            entries=outcome.golden_entries,
            verified=golden.verified,
        ),
        subject=SubjectTold(
            kind=str(described.kind),
            name=described.name,
            id=described.id,
            state=described.state,
            image_digests=described.image_digests,
            of_this_image=_of_this_image(golden, described, inspected),
            mounts=described.mounts,
            entries=outcome.subject_entries,
        ),
        totals=totals_told(outcome, configuration),
        findings=findings_told(outcome.findings),
        configuration=configuration_told(configuration),
        configuration_compared=inspected is not None,
        expected=findings_told(outcome.expected),
        rules=rules_digest,
        times=Times(started=started, finished=datetime.now(UTC)),
        tool=Tool(version=__version__),
    )
    return Comparison(outcome, report)


def _expectations(golden: GoldenConfiguration, inspected: Mapping[str, Any] | None) -> tuple[Expectation, ...]:
    """Where writes are expected comes from what was signed; of the subject's own word only where things are mounted."""
    return (
        *writable(golden.runtime.writable, "the recipe says that containers write here"),
        *writable(golden.volumes, "the image declares this volume"),
        *(mount_points(mounted(inspected)) if inspected is not None else ()),
    )


def _of_this_image(golden: GoldenImage, described: Described, inspected: Mapping[str, Any] | None) -> bool | None:
    if golden.digest in described.image_digests:
        return True
    made_from = (inspected or {}).get("Image")
    if described.kind is SubjectKind.CONTAINER:
        return made_from is not None and made_from in golden.configuration.image_ids
    return False if described.image_digests else None
