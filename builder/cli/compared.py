"""A comparison on a terminal: the gravest first, each reason once, and the verdict last, where the eye is."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from contextlib import redirect_stdout
from itertools import groupby

from rich.text import Text

from builder.cli.output import console, say, size_text, styled
from builder.counted import counted
from builder.forensics.changes import change_lines
from builder.forensics.keeping import Kept
from builder.forensics.report import ConfigurationTold, FindingTold, Report, Told

_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "dim"}
_VERDICTS = {
    Told.IDENTICAL: "bold green",
    Told.EXPECTED: "bold green",
    Told.NO_DIFFERENCE_SEEN: "bold yellow",
    Told.DRIFTED: "bold yellow",
    Told.SUSPICIOUS: "bold red",
}
_MOST_OF_ONE_RULE = 25
_MOST_EXPECTED = 6


def print_report(report: Report) -> None:
    listed: dict[str, list[FindingTold | ConfigurationTold]] = {}
    found: list[FindingTold | ConfigurationTold] = [*report.weighing, *report.findings]
    for one in found:
        listed.setdefault(one.severity, []).append(one)
    for severity, count in report.totals.by_severity.items():
        if count:
            _print_group(severity, count, listed.get(severity, []))
    _print_expected(report)
    _print_summary(report)


def report_text(report: Report) -> str:
    """What `print_report` prints, without colours."""
    recording = io.StringIO()
    with redirect_stdout(recording):
        print_report(report)
    return recording.getvalue()


def print_kept(kept: Kept) -> None:
    diffs = f", {counted(kept.diffs, 'diff')}" if kept.diffs else ""
    say(f"evidence    {counted(kept.files, 'file')}, {size_text(kept.bytes)}{diffs} in {kept.directory}")
    for path, why in kept.left_out[:_MOST_EXPECTED]:
        say(styled(f"NOT kept    {path}: {why}", "yellow"))
    if len(kept.left_out) > _MOST_EXPECTED:
        say(styled(f"NOT kept    {len(kept.left_out) - _MOST_EXPECTED} more, in index.json", "yellow"))
    for note in kept.notes[:_MOST_EXPECTED]:
        say(styled(f"            {note}", "dim"))


def _print_group(severity: str, count: int, found: Sequence[FindingTold | ConfigurationTold]) -> None:
    style = _STYLES[severity]
    say(Text(f"{severity.upper()}  {count}", style))
    shown = 0
    for rule, group in groupby(sorted(found, key=_rule), key=_rule):
        those = list(group)
        for line in _wrapped(f"{those[0].reason}  [{rule}]"):
            say(Text("  "), styled(line, "dim"))
        for one in those[:_MOST_OF_ONE_RULE]:
            _print_one(one, style)
        if len(those) > _MOST_OF_ONE_RULE:
            say(f"    … and {len(those) - _MOST_OF_ONE_RULE} more of this sort; --format json lists them")
        shown += len(those)
    if count > shown:
        say(f"  … and {count - shown} more, counted but not listed")
    say()


def _print_one(one: FindingTold | ConfigurationTold, style: str) -> None:
    if isinstance(one, ConfigurationTold):
        say(Text("    "), styled(one.member, style))
        say(f"        {one.golden or 'not set'} -> {one.subject or 'not set'}")
        return
    package = f"  {one.package}" if one.package else ""
    say(Text("    "), styled(one.path, style), f"  {', '.join(one.kinds)}", styled(package, "dim"))
    for line in change_lines(one):
        say(f"        {line}")


def _print_expected(report: Report) -> None:
    configured = [one for one in report.configuration if one.expected is not None]
    total = report.totals.expected + len(configured)
    if not total:
        return
    say(Text(f"EXPECTED  {total}", "green"))
    reasons: dict[str, list[str]] = {}
    for one in report.expected:
        reasons.setdefault(one.expected or "", []).append(one.path)
    for member in configured:
        reasons.setdefault(member.expected or "", []).append(member.member)
    for reason, places in reasons.items():
        more = f", … {len(places) - _MOST_EXPECTED} more" if len(places) > _MOST_EXPECTED else ""
        say(f"  {reason}: {len(places)}")
        for line in _wrapped(", ".join(places[:_MOST_EXPECTED]) + more, indent=4):
            say(Text("    "), styled(line, "dim"))
    say()


def _print_summary(report: Report) -> None:
    subject, totals, verified = report.subject, report.totals, report.golden.verified
    kinds = ", ".join(f"{count} {kind}" for kind, count in totals.by_kind.items())
    configured = f", {totals.configuration} in the configuration" if totals.configuration else ""
    expected = totals.expected + totals.expected_configuration
    say(f"golden      {report.golden.image}")
    say(f"compared    {subject.entries} paths of {subject.name} with {report.golden.entries} golden ones")
    say(f"found       {totals.findings} drifted{f' ({kinds})' if kinds else ''}{configured}, {expected} expected")
    if not report.configuration_compared:
        say(f"            no runtime configuration: this {subject.kind} has none")
    for why in report.unproven:
        say(styled(f"NOT looked at: {why}", "yellow"))
    if subject.of_this_image is False:
        who = "The engine" if subject.kind == "container" else "Its source"
        say(styled(f"{who} does not say that this {subject.kind} was made from that image.", "yellow"))
    _print_trust(report)
    logged = f", log entry {verified.log_index}" if verified.log_index is not None else ""
    say(f"signed by   {verified.identity}{logged}")
    say(styled(f"{subject.name}: {report.headline}", _VERDICTS[report.verdict]))


def _print_trust(report: Report) -> None:
    verified = report.golden.verified
    if verified.trust_from_server:
        say(
            styled(
                f"Trust comes from {verified.trust}: the server that is checked says itself whom to trust. "
                "Give --trusted-root, --identity and --issuer for a check that does not rest on its word.",
                "yellow",
            )
        )
    else:
        say(f"trust from  {verified.trust}")
    if verified.sandbox:
        say(styled("SANDBOX signature: for trying things out, it proves nothing to others.", "bold yellow"))


def _rule(one: FindingTold | ConfigurationTold) -> str:
    return one.rule


def _wrapped(text: str, indent: int = 2) -> list[str]:
    width = max(40, min(console().width, 110)) - indent
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
