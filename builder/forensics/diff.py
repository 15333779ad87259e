"""What changed between two golden releases, as one document: `goldsmith-diff/v1`, docs/comparing.md.

Text and Markdown are made from it, so neither says more than its JSON. Paths are told as in a comparison's report.
"""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field

from builder.forensics.report import EntryTold, Part, Tool, VerifiedBy

FORMAT: Final = "goldsmith-diff/v1"


class Verdict(StrEnum):
    """Without everything having been compared, none is `identical`."""

    IDENTICAL = "identical"
    NO_DIFFERENCE_SEEN = "no-difference-seen"
    DIFFERENT = "different"


class PackageChange(StrEnum):
    """`CHANGED`: there are several versions of it, which have no one direction."""

    ADDED = "added"
    REMOVED = "removed"
    UPGRADED = "upgraded"
    DOWNGRADED = "downgraded"
    CHANGED = "changed"


class ScanTold(Part):
    """The kept scan that findings were taken from. `signed`: the signed provenance names the report by this digest."""

    digest: str
    signed: bool
    scanner: str | None = None
    database_updated: datetime | None = None
    sample_database: bool | None = Field(default=None, description="A sample database is not complete.")


class ReleaseTold(Part):
    """`packages` counts those that installed at least one path. `scan` is null where no report could be had."""

    image: str
    digest: str
    inventory_digest: str
    entries: int
    packages: int
    verified: VerifiedBy
    scan: ScanTold | None = None


class FileTold(Part):
    """A path that differs; `package` is whose it is, in the later release if it is there."""

    path: str
    path_base64: str | None = None
    kinds: tuple[str, ...]
    package: str | None = Field(default=None, examples=["bash=5.2.37-2"])
    moved_from: str | None = None
    before: EntryTold | None = None
    after: EntryTold | None = None


class PackageTold(Part):
    """A package that changed. `paths` counts all its paths that differ, by kind; `files` are those that are listed."""

    name: str
    change: PackageChange
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    paths: int
    by_kind: dict[str, int] = Field(default={})
    files: tuple[FileTold, ...] = ()

    def __str__(self) -> str:
        before, after = ", ".join(self.before), ", ".join(self.after)
        if not self.before or not self.after:
            return f"{'+' if self.after else '-'} {self.name} {before or after}"
        return f"~ {self.name} {before} -> {after}"


class MemberTold(Part):
    """A member of the configuration or recipe; null where there is none."""

    member: str
    before: str | None
    after: str | None


class VulnerabilityTold(Part):
    installed: str
    fixed: str | None
    severity: str


class FindingTold(Part):
    """A vulnerability of a package: new without `before`, gone without `after`, else still there."""

    id: str
    package: str
    before: VulnerabilityTold | None
    after: VulnerabilityTold | None

    @property
    def severity(self) -> str:
        there = self.after or self.before
        return there.severity if there else "UNKNOWN"


class Findings(Part):
    """Gravest first."""

    new: tuple[FindingTold, ...] = ()
    gone: tuple[FindingTold, ...] = ()
    remaining: tuple[FindingTold, ...] = ()


class Totals(Part):
    """Of all that differs, what is not listed too. `files` are those of no changed package."""

    packages: int
    package_files: int
    files: int
    configuration: int
    recipe: int
    findings_new: int
    findings_gone: int


class Diff(Part):
    """`configuration` and `findings` are null where they could not be compared: `undetermined` says why."""

    format: Literal["goldsmith-diff/v1"] = FORMAT
    verdict: Verdict
    complete: bool
    undetermined: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    before: ReleaseTold
    after: ReleaseTold
    totals: Totals
    packages: tuple[PackageTold, ...] = ()
    files: tuple[FileTold, ...] = ()
    configuration: tuple[MemberTold, ...] | None
    recipe: tuple[MemberTold, ...] = ()
    findings: Findings | None
    tool: Tool

    def json_text(self) -> str:
        """In ASCII: it survives every terminal and locale, and nothing in it acts on one."""
        return json.dumps(self.data(), indent=2, ensure_ascii=True).replace("\x7f", "\\u007f") + "\n"

    def data(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)

    @property
    def differs(self) -> bool:
        return self.verdict is Verdict.DIFFERENT

    @property
    def headline(self) -> str:
        """The verdict in words that do not claim more than was seen."""
        if self.verdict is Verdict.IDENTICAL:
            return "nothing differs"
        if self.verdict is Verdict.NO_DIFFERENCE_SEEN:
            return "no difference seen, but not everything could be compared"
        told = ", ".join(
            f"{count} {thing if count == 1 else things}" for count, thing, things in self._counts() if count
        )
        return told + ("" if self.complete else ", and not everything could be compared")

    def _counts(self) -> tuple[tuple[int, str, str], ...]:
        totals = self.totals
        return (
            (totals.packages, "package", "packages"),
            (totals.files, "other path", "other paths"),
            (totals.configuration, "member of the configuration", "members of the configuration"),
            (totals.recipe, "member of the recipe", "members of the recipe"),
            (totals.findings_new, "new finding", "new findings"),
            (totals.findings_gone, "finding gone", "findings gone"),
        )
