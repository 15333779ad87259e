"""A report as one HTML page: a person can read, keep and print it. It loads nothing, runs nothing, and is no markup
of the subject's: every text is escaped, and the page's own policy forbids whatever an escape might have missed."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from builder.forensics.changes import change_lines
from builder.forensics.report import ConfigurationTold, FindingTold, Report, Told, visible

_SEVERITIES = ("critical", "high", "medium", "low", "info")
_TONES = {
    Told.IDENTICAL: "good",
    Told.EXPECTED: "good",
    Told.NO_DIFFERENCE_SEEN: "open",
    Told.DRIFTED: "warn",
    Told.SUSPICIOUS: "bad",
}
_MOST_ROWS = 2000


def page_text(report: Report) -> str:
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_text(page_policy())}">',
            '<meta name="referrer" content="no-referrer">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(report.subject.name)}: {_text(report.headline)}</title>",
            f"<style>{page_style()}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_summary(report),
            *(line for severity in _SEVERITIES for line in _group(report, severity)),
            *_expected(report),
            *_footer(report),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def page_policy() -> str:
    """The Content-Security-Policy of every page: no more than its own style."""
    fingerprint = base64.b64encode(hashlib.sha256(page_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{fingerprint}'; base-uri 'none'; form-action 'none'"


@cache
def page_style() -> str:
    """The style of every page."""
    return Path(__file__).with_name("page.css").read_text("utf-8")


def _summary(report: Report) -> Iterator[str]:
    subject, totals = report.subject, report.totals
    tone = _TONES[report.verdict] if report.complete or report.verdict is not Told.EXPECTED else "open"
    state = f", {subject.state}" if subject.state else ""
    yield f'<header class="{tone}">'
    yield f"<p>{_text(subject.kind.capitalize())} <code>{_text(subject.name)}</code>{_text(state)}</p>"
    yield f"<h1>{_text(report.headline[:1].upper() + report.headline[1:])}</h1>"
    yield f"<p>Compared {report.times.finished:%Y-%m-%d %H:%M:%S} UTC, {subject.entries:,} paths.</p>"
    yield "</header>"
    yield '<ul class="tiles">'
    counted = [(severity, totals.by_severity.get(severity, 0)) for severity in _SEVERITIES]
    for name, count in [*counted, ("expected", totals.expected + totals.expected_configuration)]:
        yield f'<li class="{name}{"" if count else " none"}"><b>{count:,}</b><span>{name}</span></li>'
    yield "</ul>"
    yield from _notes(report)
    yield "<dl>"
    for name, value in _facts(report):
        yield f"<dt>{_text(name)}</dt><dd>{value}</dd>"
    yield "</dl>"


def _notes(report: Report) -> Iterator[str]:
    if report.unproven:
        yield '<div class="note"><b>Not looked at, and so not proven</b><ul>'
        yield from (f"<li>{_text(one)}</li>" for one in report.unproven)
        yield "</ul></div>"
    if report.subject.of_this_image is False:
        yield '<div class="note"><b>Nobody says that this was made from that image.</b></div>'
    if report.golden.verified.sandbox:
        yield '<div class="note"><b>Sandbox signature.</b> For trying things out; it proves nothing to others.</div>'
    if report.golden.verified.trust_from_server:
        yield (
            '<div class="note"><b>Trust comes from the server that was checked.</b> '
            "Name a trusted root of your own for a check that does not rest on its word.</div>"
        )


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    golden, subject, verified = report.golden, report.subject, report.golden.verified
    yield "Golden image", _code(golden.image)
    if golden.digest not in golden.image:
        yield "Digest", _code(golden.digest)
    logged = f", log entry {verified.log_index}" if verified.log_index is not None else ""
    at = f", {verified.integrated_time:%Y-%m-%d %H:%M:%S} UTC" if verified.integrated_time else ""
    yield "Signed by", f'{_code(verified.identity)} <span class="dim">{_text(verified.issuer + logged + at)}</span>'
    yield "Inventory", f'{_code(golden.inventory_digest)} <span class="dim">{golden.entries:,} paths</span>'
    if subject.id:
        yield "Subject", _code(subject.id)
    if subject.mounts:
        yield "Mounted over it", ", ".join(_code(one) for one in subject.mounts)


def _group(report: Report, severity: str) -> Iterator[str]:
    configuration = [one for one in report.weighing if one.severity == severity]
    files = [one for one in report.findings if one.severity == severity]
    total = report.totals.by_severity.get(severity, 0)
    if not total:
        return
    yield f'<section class="{severity}"><h2>{severity.capitalize()} <small>{total:,}</small></h2>'
    yield from _rows(configuration, files)
    yield from _left(total - len(configuration) - min(len(files), _MOST_ROWS))
    yield "</section>"


def _expected(report: Report) -> Iterator[str]:
    configuration = [one for one in report.configuration if one.expected is not None]
    total = report.totals.expected + len(configuration)
    if not total:
        return
    yield f'<details class="expected"><summary>Expected changes ({total:,})</summary>'
    yield from _rows(configuration, report.expected)
    yield from _left(report.totals.expected - min(len(report.expected), _MOST_ROWS))
    yield "</details>"


def _rows(
    configuration: Iterable[ConfigurationTold], files: tuple[FindingTold, ...] | list[FindingTold]
) -> Iterator[str]:
    for member in configuration:
        change = f"{member.golden or 'not set'} → {member.subject or 'not set'}"
        yield _row("configuration", member.member, "", [change], member.expected or member.reason, member.rule)
    for one in files[:_MOST_ROWS]:
        yield _row(
            ", ".join(one.kinds), one.path, one.package or "", change_lines(one), one.expected or one.reason, one.rule
        )


def _row(kinds: str, what: str, package: str, changes: list[str], why: str, rule: str) -> str:
    told = "".join(f'<code class="change">{_text(line)}</code>' for line in changes)
    return (
        f'<article><div class="kinds">{_text(kinds)}</div><div>'
        f'<h3>{_code(what)} <span class="dim">{_text(package)}</span></h3>{told}'
        f'<p>{_text(why)} <span class="rule">{_text(rule)}</span></p></div></article>'
    )


def _left(count: int) -> Iterator[str]:
    if count > 0:
        yield f'<p class="dim">… and {count:,} more, counted but not listed here.</p>'


def _footer(report: Report) -> Iterator[str]:
    taken = (report.times.finished - report.times.started).total_seconds()
    yield f"<footer>Goldsmith {_text(report.tool.version)}, {_text(report.format)}, {taken:.1f} s."
    yield "The golden inventory was verified against its signature before anything was compared with it."
    yield "The engine of a host that is itself suspected may lie about its containers: compare an image of its disk,"
    yield "or its root file system mounted elsewhere.</footer>"


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _text(text: str) -> str:
    return html.escape(visible(text), quote=True)
