"""The kept scan reports of two releases: which vulnerabilities are gone, new, and still there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from builder.forensics.diff import Findings, FindingTold, ScanTold, VulnerabilityTold
from builder.scanning.findings import Severity, Vulnerability

_GRAVEST_FIRST = tuple(reversed(Severity))


@dataclass(frozen=True)
class Scan:
    """A kept report, read. `told` says whether its digest is signed."""

    vulnerabilities: tuple[Vulnerability, ...]
    told: ScanTold


def finding_changes(before: Scan | str, after: Scan | str) -> Findings | None:
    """By vulnerability and package name: one whose package went on to another version with it is still there.

    A text says why there is no report; without both nothing is known, which is not the same as nothing found.
    """
    if isinstance(before, str) or isinstance(after, str):
        return None
    old, new = _by_name(before.vulnerabilities), _by_name(after.vulnerabilities)
    told = sorted(
        (FindingTold(id=key[0], package=key[1], before=old.get(key), after=new.get(key)) for key in {**old, **new}),
        key=lambda one: (_GRAVEST_FIRST.index(Severity(one.severity)), one.package, one.id),
    )
    return Findings(
        new=tuple(one for one in told if one.before is None),
        gone=tuple(one for one in told if one.after is None),
        remaining=tuple(one for one in told if one.before is not None and one.after is not None),
    )


def notes_on(scans: Mapping[str, Scan | str]) -> tuple[str, ...]:
    """What a reader of findings must know of the reports they come from. `scans` are by the image's name."""
    return tuple(_notes({image: scan.told for image, scan in scans.items() if isinstance(scan, Scan)}))


def _notes(scans: Mapping[str, ScanTold]) -> Iterator[str]:
    for image, scan in scans.items():
        if not scan.signed:
            yield f"The scan report of {image} is NOT signed: whoever may push beside the image may have written it."
        if scan.sample_database:
            yield f"The scan of {image} rests on a SAMPLE database, which is not complete."
    dates = {scan.database_updated for scan in scans.values()}
    if None not in dates and len(dates) > 1:
        yield "The scans rest on databases of different dates: a new finding may be one that was not known before."


def _by_name(vulnerabilities: Iterable[Vulnerability]) -> dict[tuple[str, str], VulnerabilityTold]:
    return {
        (one.id, one.package): VulnerabilityTold(installed=one.installed, fixed=one.fixed, severity=str(one.severity))
        for one in vulnerabilities
    }
