"""A report as Markdown, for tickets and pull requests. Nothing that came from the subject can become markup."""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.forensics.changes import change_lines
from builder.forensics.report import FindingTold, Report, visible

_SEVERITIES = ("critical", "high", "medium", "low", "info")
_MOST_ROWS = 500


def markdown_text(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    golden, subject, totals = report.golden, report.subject, report.totals
    yield f"# {plain(subject.name)}: {plain(report.headline)}"
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield f"| golden image | {code(golden.image)} |"
    yield f"| digest | {code(golden.digest)} |"
    sandbox = " (SANDBOX: proves nothing to others)" if golden.verified.sandbox else ""
    yield f"| signed by | {code(golden.verified.identity)}{sandbox} |"
    yield f"| subject | {plain(subject.kind)} {code(subject.name)} |"
    if subject.of_this_image is False:
        yield "| | **not said to be made from this image** |"
    yield f"| paths | {subject.entries}, golden {golden.entries} |"
    counts = ", ".join(f"{count} {severity}" for severity, count in totals.by_severity.items() if count) or "none"
    yield f"| findings | {counts} |"
    yield f"| expected | {totals.expected + totals.expected_configuration} |"
    yield f"| compared | {report.times.finished:%Y-%m-%d %H:%M:%S} UTC, goldsmith {plain(report.tool.version)} |"
    if report.unproven:
        yield ""
        yield "**Not looked at, and so not proven:**"
        yield ""
        yield from (f"- {plain(one)}" for one in report.unproven)
    for severity in _SEVERITIES:
        yield from _group(report, severity)
    if report.expected or len(report.weighing) < len(report.configuration):
        yield from _expected(report)


def _group(report: Report, severity: str) -> Iterator[str]:
    files = [one for one in report.findings if one.severity == severity]
    configuration = [one for one in report.weighing if one.severity == severity]
    if not files and not configuration:
        return
    yield ""
    yield f"## {severity.capitalize()}"
    yield ""
    yield "| what | how | why it matters |"
    yield "| --- | --- | --- |"
    for member in configuration:
        how = f"{_value(member.golden)} → {_value(member.subject)}"
        yield f"| {code(member.member)} | {how} | {plain(member.reason)} `{member.rule}` |"
    for one in files[:_MOST_ROWS]:
        yield f"| {code(one.path)}{_package(one)} | {_how(one)} | {plain(one.reason)} `{one.rule}` |"
    left = report.totals.by_severity.get(severity, 0) - len(configuration) - min(len(files), _MOST_ROWS)
    if left > 0:
        yield ""
        yield f"… and {left} more."


def _expected(report: Report) -> Iterator[str]:
    yield ""
    yield "## Expected"
    yield ""
    yield "| what | how | why it is expected |"
    yield "| --- | --- | --- |"
    for member in report.configuration:
        if member.expected is not None:
            yield f"| {code(member.member)} | {_value(member.subject)} | {plain(member.expected)} |"
    for one in report.expected[:_MOST_ROWS]:
        yield f"| {code(one.path)} | {_how(one)} | {plain(one.expected or '')} |"
    left = report.totals.expected - min(len(report.expected), _MOST_ROWS)
    if left > 0:
        yield ""
        yield f"… and {left} more."


def _how(one: FindingTold) -> str:
    return "<br>".join([plain(", ".join(one.kinds)), *(code(line) for line in change_lines(one))])


def _package(one: FindingTold) -> str:
    return f" {plain(one.package)}" if one.package else ""


def _value(value: str | None) -> str:
    return code(value) if value else "not set"


def code(text: str) -> str:
    """A code span in a table's cell that nothing in `text` can end."""
    safe = visible(text).replace("|", "\\|")
    ticks = max((len(run) for run in re.findall("`+", safe)), default=0) + 1
    fence = "`" * ticks
    return f"{fence} {safe} {fence}" if safe.startswith("`") or safe.endswith("`") else f"{fence}{safe or ' '}{fence}"


def plain(text: str) -> str:
    """Text that is text: what Markdown or HTML might read as markup is escaped."""
    return re.sub(r"[\\`*_\[\]<>#|~&@]|:(?=//)", lambda found: f"&#{ord(found[0])};", visible(text))
