"""Two golden releases against each other: packages, paths, configuration, recipe and findings.

Both were verified before, by whoever calls. Each inventory is read twice, for its packages and for its paths: memory
grows with the packages, not with the paths.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import __version__
from builder.forensics.compare import compare
from builder.forensics.diff import (
    Diff,
    FileTold,
    MemberTold,
    PackageChange,
    PackageTold,
    ReleaseTold,
    Totals,
    Verdict,
)
from builder.forensics.findings import Difference, Finding, Outcome, Severity
from builder.forensics.members import Member, changed_configuration, changed_members
from builder.forensics.report import Tool, VerifiedBy, entry_told, path_text
from builder.forensics.scans import Scan, finding_changes, notes_on
from builder.image.entry import Entry
from builder.image.inventory import Package, Record, open_inventory
from builder.planning.versions import version_key


@dataclass(frozen=True)
class Release:
    """A golden image whose signature was verified. `inventory` has the digest that was signed.

    `configuration` is None where the image's config could not be had, `scan` a reason where no report could be.
    """

    image: str
    digest: str
    inventory: Path
    inventory_digest: str
    verified: VerifiedBy
    recipe: Mapping[str, Any]
    configuration: Mapping[str, Any] | None
    scan: Scan | str


@dataclass(frozen=True, slots=True, eq=False)
class _Owned(Entry):
    """An entry that knows its package: what is added has no other way to say whose it is.

    It equals no plain entry, so a comparison looks at each of its members; that finds the same differences.
    """

    package: Package | None = None


@dataclass(frozen=True)
class _Packages:
    versions: Mapping[str, tuple[str, ...]]
    entries: int


def diff_releases(before: Release, after: Release, *, keep: int = 10_000) -> Diff:
    """Compare, to the end or not at all. At most `keep` paths are listed, those of no changed package first.

    Raises InventoryInvalid and OutOfOrder.
    """
    old, new = _packages(before.inventory), _packages(after.inventory)
    changed = {
        name: change
        for name in sorted(old.versions.keys() | new.versions.keys())
        if (change := _change(old.versions.get(name, ()), new.versions.get(name, ())))
    }
    outcome, counts = _compare(before.inventory, after.inventory, frozenset(changed), keep)
    listed: dict[str | None, list[FileTold]] = {}
    for one in outcome.findings:
        listed.setdefault(_group(one.difference, changed.keys()), []).append(_file(one.difference))
    configuration = (
        changed_configuration(before.configuration, after.configuration)
        if before.configuration is not None and after.configuration is not None
        else None
    )
    recipe = changed_members(before.recipe, after.recipe)
    findings = finding_changes(before.scan, after.scan)
    undetermined = (*_without_configuration(before, after), *_without_scan(before, after))
    totals = Totals(
        packages=len(changed),
        package_files=sum(counts[name].total for name in changed if name in counts),
        files=counts[None].total if None in counts else 0,
        configuration=len(configuration or ()),
        recipe=len(recipe),
        findings_new=len(findings.new) if findings else 0,
        findings_gone=len(findings.gone) if findings else 0,
    )
    return Diff(
        verdict=_verdict(totals, complete=not undetermined),
        complete=not undetermined,
        undetermined=undetermined,
        notes=notes_on({before.image: before.scan, after.image: after.scan}),
        before=_release(before, old),
        after=_release(after, new),
        totals=totals,
        packages=tuple(
            PackageTold(
                name=name,
                change=change,
                before=old.versions.get(name, ()),
                after=new.versions.get(name, ()),
                paths=counts[name].total if name in counts else 0,
                by_kind=counts[name].told() if name in counts else {},
                files=tuple(listed.get(name, ())),
            )
            for name, change in changed.items()
        ),
        files=tuple(listed.get(None, ())),
        configuration=_members(configuration) if configuration is not None else None,
        recipe=_members(recipe),
        findings=findings,
        tool=Tool(version=__version__),
    )


def _packages(inventory: Path) -> _Packages:
    found: dict[str, set[str]] = {}
    with open_inventory(inventory) as (header, records):
        for record in records:
            if record.package is not None:
                found.setdefault(record.package.name, set()).add(record.package.version)
    return _Packages(
        {name: tuple(sorted(versions, key=version_key)) for name, versions in found.items()}, header.entries
    )


def _change(before: Sequence[str], after: Sequence[str]) -> PackageChange | None:
    if before == after:
        return None
    if not before or not after:
        return PackageChange.REMOVED if before else PackageChange.ADDED
    old, new = version_key(before[0]), version_key(after[0])
    if len(before) > 1 or len(after) > 1 or old == new:
        return PackageChange.CHANGED
    return PackageChange.UPGRADED if old < new else PackageChange.DOWNGRADED


class _Count:
    """How many paths of one package differ, and how."""

    def __init__(self) -> None:
        self.total = 0
        self._kinds: Counter[str] = Counter()

    def add(self, difference: Difference) -> None:
        self.total += 1
        self._kinds.update(str(kind) for kind in difference.kinds)

    def told(self) -> dict[str, int]:
        return dict(sorted(self._kinds.items()))


def _compare(before: Path, after: Path, changed: frozenset[str], keep: int) -> tuple[Outcome, dict[str | None, _Count]]:
    counts: dict[str | None, _Count] = {}

    def judge(difference: Difference) -> Finding:
        group = _group(difference, changed)
        counts.setdefault(group, _Count()).add(difference)
        # What no package explains is what a reader looks for: it is kept first.
        severity = Severity.LOW if group is None else Severity.INFO
        return Finding(difference, severity, group or "", "")

    with open_inventory(before) as (_, old), open_inventory(after) as (_, new):
        return compare(old, _owned(new), judge=judge, keep=keep), counts


def _owned(records: Iterable[Record]) -> Iterator[Entry]:
    for record in records:
        e, package = record.entry, record.package
        if package is None:
            yield e
        else:
            yield _Owned(e.path, e.type, e.mode, e.uid, e.gid, e.size, e.sha256, e.target, e.device, e.xattrs, package)


def _group(difference: Difference, changed: Iterable[str]) -> str | None:
    """The changed package that the path belongs to, the later release asked first."""
    for package in (_later(difference), difference.package):
        if package is not None and package.name in changed:
            return package.name
    return None


def _later(difference: Difference) -> Package | None:
    return difference.subject.package if isinstance(difference.subject, _Owned) else None


def _file(difference: Difference) -> FileTold:
    text, exact = path_text(difference.path)
    package = _later(difference) if difference.subject is not None else difference.package
    return FileTold(
        path=text,
        path_base64=None if exact else base64.b64encode(difference.path).decode("ascii"),
        kinds=tuple(str(kind) for kind in difference.kinds),
        package=f"{package.name}={package.version}" if package else None,
        moved_from=path_text(difference.moved_from)[0] if difference.moved_from is not None else None,
        before=entry_told(difference.golden),
        after=entry_told(difference.subject),
    )


def _members(members: Iterable[Member]) -> tuple[MemberTold, ...]:
    return tuple(MemberTold(member=one.name, before=one.before, after=one.after) for one in members)


def _without_configuration(*releases: Release) -> Iterator[str]:
    for release in releases:
        if release.configuration is None:
            yield f"the configuration: the image's config of {release.image} was not at hand"


def _without_scan(*releases: Release) -> Iterator[str]:
    for release in releases:
        if isinstance(release.scan, str):
            yield f"the findings: {release.scan}"


def _release(release: Release, packages: _Packages) -> ReleaseTold:
    return ReleaseTold(
        image=release.image,
        digest=release.digest,
        inventory_digest=release.inventory_digest,
        entries=packages.entries,
        packages=len(packages.versions),
        verified=release.verified,
        scan=release.scan.told if isinstance(release.scan, Scan) else None,
    )


def _verdict(totals: Totals, *, complete: bool) -> Verdict:
    if any(totals.model_dump().values()):
        return Verdict.DIFFERENT
    return Verdict.IDENTICAL if complete else Verdict.NO_DIFFERENCE_SEEN
