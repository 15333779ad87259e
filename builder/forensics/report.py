"""The report of a comparison: one document that says what was compared with what, on whose word, and what was found.

Its JSON is `goldsmith-comparison/v1`, docs/formats/comparison.md. Every other form (SARIF, Markdown, HTML, the
terminal) is made from it, so none says more than another. A path is told as text that is safe to show; where that is
not the path itself, `pathBase64` has the bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.forensics.findings import ConfigurationFinding, Finding, Kind, Outcome, Severity, Verdict, verdict_of
from builder.image.entry import Entry

FORMAT: Final = "goldsmith-comparison/v1"
MEDIA_TYPE: Final = "application/vnd.goldsmith.comparison.v1+json"
PREDICATE_TYPE: Final = "urn:goldsmith:comparison:v1"
_MOST_LISTED = 10_000


class Told(StrEnum):
    """The verdict as a report tells it. Without having looked at everything none is `identical`."""

    IDENTICAL = "identical"
    NO_DIFFERENCE_SEEN = "no-difference-seen"
    EXPECTED = "expected-changes-only"
    DRIFTED = "drifted"
    SUSPICIOUS = "suspicious"


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Tool(Part):
    name: str = "goldsmith"
    version: str


class Times(Part):
    started: datetime
    finished: datetime


class Check(Part):
    name: str
    detail: str


class VerifiedBy(Part):
    """Who signed the provenance that the golden inventory was taken from, and why that was believed."""

    identity: str
    issuer: str
    trust: str = Field(description="Where the trusted root came from.")
    trust_from_server: bool = Field(description="The server that is checked said itself whom to trust.")
    sandbox: bool = Field(description="Signed by a sandbox: it proves nothing to others.")
    log_index: int | None = None
    integrated_time: datetime | None = None
    checks: tuple[Check, ...] = ()


class Golden(Part):
    """`image` is how it was named, `digest` its manifest's, `configuration_digest` its config's where that was had."""

    image: str
    digest: str
    inventory_digest: str
    configuration_digest: str | None = None
    entries: int
    verified: VerifiedBy


class SubjectTold(Part):
    """`of_this_image`: whether engine or registry say that it was made from the golden image; null: nobody knows."""

    kind: str
    name: str
    id: str | None = None
    state: str | None = None
    image_digests: tuple[str, ...] = ()
    of_this_image: bool | None = None
    mounts: tuple[str, ...] = ()
    entries: int


class Totals(Part):
    """Of all findings, those that are not listed too. `expected` and what weighs are counted apart."""

    findings: int
    configuration: int
    expected: int
    expected_configuration: int
    by_severity: dict[str, int]
    by_kind: dict[str, int]
    labels_ignored: int = Field(description="Attributes of the host, such as SELinux labels, that no inventory holds.")


class EntryTold(Part):
    type: str
    mode: str = Field(examples=["0755"])
    uid: int
    gid: int
    size: int
    sha256: str | None = None
    target: str | None = None
    device: tuple[int, int] | None = None
    xattrs: dict[str, str] = Field(default={}, description="Name -> value in base64.")


class FindingTold(Part):
    path: str
    path_base64: str | None = None
    kinds: tuple[str, ...]
    severity: str
    rule: str
    reason: str
    expected: str | None = None
    package: str | None = Field(default=None, examples=["bash=5.2.37-2"])
    moved_from: str | None = None
    golden: EntryTold | None = None
    subject: EntryTold | None = None


class ConfigurationTold(Part):
    """`golden` and `subject` are values as text; of one that may be a secret no more than its length."""

    member: str
    golden: str | None
    subject: str | None
    severity: str
    rule: str
    reason: str
    expected: str | None = None


class Report(Part):
    """A comparison, whole. `findings` are gravest first; the totals say if there are more than are listed."""

    format: Literal["goldsmith-comparison/v1"] = FORMAT
    verdict: Told
    complete: bool = Field(description="Whether everything of the subject was looked at; if not, see `unproven`.")
    unproven: tuple[str, ...] = ()
    golden: Golden
    subject: SubjectTold
    totals: Totals
    findings: tuple[FindingTold, ...] = ()
    configuration: tuple[ConfigurationTold, ...] = ()
    configuration_compared: bool = Field(description="Whether the subject has a runtime configuration to compare.")
    expected: tuple[FindingTold, ...] = ()
    rules: str | None = Field(default=None, description="sha256 of a rules file that came before the shipped rules.")
    times: Times
    tool: Tool

    def json_text(self) -> str:
        """In ASCII: it survives every terminal and locale, and nothing in it acts on one."""
        return json.dumps(self.data(), indent=2, ensure_ascii=True).replace("\x7f", "\\u007f") + "\n"

    def data(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)

    @property
    def weighing(self) -> tuple[ConfigurationTold, ...]:
        """What of the configuration is no expected change."""
        return tuple(one for one in self.configuration if one.expected is None)

    @property
    def headline(self) -> str:
        """The verdict in words that do not claim more than was seen."""
        told = {
            Told.IDENTICAL: "identical to its golden image",
            Told.NO_DIFFERENCE_SEEN: "no difference seen, but not everything was looked at",
            Told.EXPECTED: "expected changes only" + ("" if self.complete else ", but not everything was looked at"),
            Told.DRIFTED: "DRIFTED from its golden image",
            Told.SUSPICIOUS: "SUSPICIOUS: changed as an intruder would change it",
        }
        return told[self.verdict]


def verdict_told(outcome: Outcome, configuration: tuple[ConfigurationFinding, ...], complete: bool) -> Told:
    verdict = verdict_of(outcome, configuration)
    return Told.NO_DIFFERENCE_SEEN if verdict is Verdict.IDENTICAL and not complete else Told(str(verdict))


def totals_told(outcome: Outcome, configuration: tuple[ConfigurationFinding, ...]) -> Totals:
    weighing = [one for one in configuration if one.expected is None]
    severities = {severity: outcome.by_severity.get(severity, 0) for severity in sorted(Severity, reverse=True)}
    for one in weighing:
        severities[one.severity] += 1
    return Totals(
        findings=outcome.findings_total,
        configuration=len(weighing),
        expected=outcome.expected_total,
        expected_configuration=len(configuration) - len(weighing),
        by_severity={str(severity): count for severity, count in severities.items()},
        by_kind={str(kind): outcome.by_kind[kind] for kind in Kind if outcome.by_kind.get(kind)},
        labels_ignored=outcome.labels_ignored,
    )


def findings_told(findings: Iterable[Finding]) -> tuple[FindingTold, ...]:
    return tuple(_finding(one) for one, _ in zip(findings, range(_MOST_LISTED), strict=False))


def configuration_told(findings: Iterable[ConfigurationFinding]) -> tuple[ConfigurationTold, ...]:
    return tuple(
        ConfigurationTold(
            member=one.member,
            golden=one.golden,
            subject=one.subject,
            severity=str(one.severity),
            rule=one.rule,
            reason=one.reason,
            expected=one.expected,
        )
        for one in findings
    )


def _finding(finding: Finding) -> FindingTold:
    difference = finding.difference
    text, exact = path_text(difference.path)
    package = difference.package
    return FindingTold(
        path=text,
        path_base64=None if exact else base64.b64encode(difference.path).decode("ascii"),
        kinds=tuple(str(kind) for kind in difference.kinds),
        severity=str(finding.severity),
        rule=finding.rule,
        reason=finding.reason,
        expected=finding.expected,
        package=f"{package.name}={package.version}" if package else None,
        moved_from=path_text(difference.moved_from)[0] if difference.moved_from is not None else None,
        golden=entry_told(difference.golden),
        subject=entry_told(difference.subject),
    )


def entry_told(entry: Entry | None) -> EntryTold | None:
    if entry is None:
        return None
    return EntryTold(
        type=str(entry.type),
        mode=f"{entry.mode:04o}",
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        sha256=entry.sha256,
        target=visible(entry.target.decode("utf-8", "backslashreplace")) if entry.target is not None else None,
        device=entry.device,
        xattrs={
            visible(name.decode("utf-8", "backslashreplace")): base64.b64encode(value).decode("ascii")
            for name, value in entry.xattrs
        },
    )


def path_text(path: bytes) -> tuple[str, bool]:
    """A path to be shown, absolute and whole, and whether that is the path itself."""
    text = path.decode("utf-8", "backslashreplace")
    safe = visible(text)
    return "/" + safe, safe.encode("utf-8") == path


def visible(text: str) -> str:
    """Text with everything that could act on whoever shows it written out: controls, line ends, bidi marks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
