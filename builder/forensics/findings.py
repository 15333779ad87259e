"""What a comparison says: in which ways paths differ, how grave that is and why, and the verdict over all of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from builder.image.entry import Entry
from builder.image.inventory import Package


class Kind(StrEnum):
    """In what way a path differs; one path may differ in several."""

    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"
    TYPE = "type"
    CONTENT = "content"
    LINK = "link"
    MODE = "mode"
    OWNER = "owner"
    XATTR = "xattr"
    CAPABILITY = "capability"
    DEVICE = "device"


class Severity(IntEnum):
    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    def __str__(self) -> str:
        return self.name.lower()


class Verdict(StrEnum):
    IDENTICAL = "identical"
    EXPECTED = "expected-changes-only"
    DRIFTED = "drifted"
    SUSPICIOUS = "suspicious"


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that differs. `package` installed the golden path; `moved_from` is where a moved file was."""

    path: bytes
    kinds: tuple[Kind, ...]
    golden: Entry | None
    subject: Entry | None
    package: Package | None = None
    moved_from: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference, judged. `rule` is the id of the rule that decided, `reason` what it means to a responder.

    `expected` says why the difference is no drift; such a finding is counted apart and weighs nothing.
    """

    difference: Difference
    severity: Severity
    rule: str
    reason: str
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigurationFinding:
    """One member of a container's runtime configuration that is not as its image or recipe says.

    `member` is its name in the engine's own words (HostConfig.Privileged, Config.Env PATH); `golden` and `subject` are
    the two values as text, None for one that is not there.
    """

    member: str
    golden: str | None
    subject: str | None
    severity: Severity
    rule: str
    reason: str
    expected: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Both trees read to their ends.

    `findings` are the gravest, gravest first and then by path, at most as many as were asked for; `expected` are the
    first of their sort. The totals and counts are of all. `labels_ignored` counts extended attributes of the host (such
    as SELinux labels) that no golden inventory holds.
    """

    golden_entries: int
    subject_entries: int
    findings: tuple[Finding, ...]
    expected: tuple[Finding, ...]
    findings_total: int
    expected_total: int
    by_kind: dict[Kind, int]
    by_severity: dict[Severity, int]
    labels_ignored: int


def verdict_of(outcome: Outcome, configuration: tuple[ConfigurationFinding, ...] = ()) -> Verdict:
    """Suspicious from the first finding of high severity on; drifted from the first of any."""
    found = [severity for severity, count in outcome.by_severity.items() if count]
    found += [one.severity for one in configuration if one.expected is None]
    if any(severity >= Severity.HIGH for severity in found):
        return Verdict.SUSPICIOUS
    if found:
        return Verdict.DRIFTED
    if outcome.expected_total or any(one.expected is not None for one in configuration):
        return Verdict.EXPECTED
    return Verdict.IDENTICAL
