"""A verdict as one HTML page: it loads nothing and runs nothing, and every text in it is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterator

from builder import __version__
from builder.forensics.page import page_policy, page_style
from builder.forensics.report import visible
from builder.verdicts.markdown import MOST_OFFENDERS
from builder.verdicts.report import RuleTold, Standing, VerdictReport


def page_text(report: VerdictReport) -> str:
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_text(page_policy())}">',
            '<meta name="referrer" content="no-referrer">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(report.recipe)}: {_text(report.headline)}</title>",
            f"<style>{page_style()}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_summary(report),
            *(line for rule in report.failed for line in _failed(rule)),
            *_excepted(report),
            *_passed(report),
            f"<footer>Goldsmith {_text(__version__)}. What is signed of it can be verified with any Sigstore client."
            "</footer>",
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _summary(report: VerdictReport) -> Iterator[str]:
    yield f'<header class="{"good" if report.passed else "bad"}">'
    yield f"<p>Image of {_code(report.recipe)}, build {_code(report.build)}, {_text(report.state)}</p>"
    yield f"<h1>{_text(report.headline[:1].upper() + report.headline[1:])}</h1>"
    if report.judged_at is not None:
        yield f"<p>Judged {report.judged_at:%Y-%m-%d %H:%M:%S} UTC.</p>"
    yield "</header>"
    outdated = [one for one in report.excepted if one.standing is Standing.EXPIRED]
    if outdated:
        yield f'<div class="note"><b>{len(outdated)} EXPIRED since.</b> What was excepted then counts now.</div>'
    if report.database.sample:
        yield (
            '<div class="note"><b>SAMPLE database.</b> It is not complete: it cannot show that an image is free of '
            "known vulnerabilities.</div>"
        )
    yield "<dl>"
    for name, value in _facts(report):
        yield f"<dt>{_text(name)}</dt><dd>{value}</dd>"
    yield "</dl>"


def _facts(report: VerdictReport) -> Iterator[tuple[str, str]]:
    yield "Image", _code(report.image)
    if report.policy is not None:
        version = f"{report.policy.name} {report.policy.version}"
        yield "Policy", f'{_text(version)} <span class="dim">{_text(report.policy.digest)}</span>'
    yield "Scanner", _text(report.scanner)
    updated = f"of {report.database.updated_at:%Y-%m-%d %H:%M} UTC"
    yield "Database", f'{updated} <span class="dim">{_text(report.database.digest)}</span>'
    for kind, digest in report.attestations.items():
        yield "Signed", f'{_code(kind)} <span class="dim">{_text(digest)}</span>'


def _failed(rule: RuleTold) -> Iterator[str]:
    yield f'<section class="critical"><h2>{_text(rule.title)} <small>failed</small></h2>'
    yield f"<p>{_text(rule.explanation)}</p>"
    if rule.remedy:
        yield f'<div class="note"><b>What would make it pass:</b> {_text(rule.remedy)}</div>'
    for one in rule.offenders[:MOST_OFFENDERS]:
        yield (
            f'<article><div class="kinds">{_text((one.severity or "").lower())}</div><div><h3>{_code(one.id)} '
            f'<span class="dim">{_text(one.subject)}</span></h3><p>{_text(one.remedy)}</p></div></article>'
        )
    if len(rule.offenders) > MOST_OFFENDERS:
        yield f'<p class="dim">… and {len(rule.offenders) - MOST_OFFENDERS:,} more.</p>'
    where = f"set in {_code(rule.field)}, " if rule.field else ""
    yield f'<p class="dim">Rule {_code(rule.rule)}, {where}documented in {_text(rule.documentation or "docs/")}.</p>'
    yield "</section>"


def _excepted(report: VerdictReport) -> Iterator[str]:
    if not report.excepted:
        return
    yield f'<section class="medium"><h2>Excepted <small>{len(report.excepted)}</small></h2>'
    for one in report.excepted:
        until = f"until {one.expires:%Y-%m-%d}" if one.expires else ""
        mark = f" <b>{_text(one.standing)}</b>" if one.standing is not Standing.HOLDS else ""
        yield (
            f'<article><div class="kinds">{_text(until)}{mark}</div><div><h3>{_code(one.vulnerability)} '
            f'<span class="dim">{_text(one.package)}</span></h3><p>{_text(one.reason)}</p>'
            f'<p class="dim">{_text(one.owner)} answers for it, exception {_code(one.exception)}.</p></div></article>'
        )
    yield "</section>"


def _passed(report: VerdictReport) -> Iterator[str]:
    passed = [rule for rule in report.rules if rule.passed]
    if not passed:
        return
    yield f'<section class="expected"><h2>Passed <small>{len(passed)}</small></h2>'
    for rule in passed:
        yield (
            f'<article><div class="kinds">{_text(rule.rule)}</div><div><h3>{_text(rule.title)}</h3>'
            f"<p>{_text(rule.explanation)}</p></div></article>"
        )
    yield "</section>"


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _text(text: str) -> str:
    return html.escape(visible(text), quote=True)
