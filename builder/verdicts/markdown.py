"""A verdict as Markdown, for tickets and pull requests. Nothing that came from the image can become markup."""

from __future__ import annotations

from collections.abc import Iterator

from builder.forensics.markdown import code, plain
from builder.verdicts.report import RuleTold, Standing, VerdictReport

MOST_OFFENDERS = 200


def markdown_text(report: VerdictReport) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: VerdictReport) -> Iterator[str]:
    yield f"# {plain(report.recipe)}: {plain(report.headline)}"
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield f"| image | {code(report.image)} |"
    yield f"| build | {code(report.build)}, {plain(report.state)} |"
    if report.policy is not None:
        yield f"| policy | {plain(report.policy.name)} {plain(report.policy.version)}, {code(report.policy.digest)} |"
    database = report.database
    sample = " **SAMPLE database, not complete**" if database.sample else ""
    yield f"| scanner | {plain(report.scanner)} |"
    yield f"| database | of {database.updated_at:%Y-%m-%d %H:%M} UTC, {code(database.digest)}{sample} |"
    for kind, digest in report.attestations.items():
        yield f"| signed | {code(kind)} {code(digest)} |"
    for rule in report.failed:
        yield from _failed(rule)
    yield from _excepted(report)
    passed = [rule for rule in report.rules if rule.passed]
    if passed:
        yield ""
        yield "## Passed"
        yield ""
        for rule in passed:
            yield f"- **{plain(rule.title)}** ({plain(rule.rule)}): {plain(rule.explanation)}"


def _failed(rule: RuleTold) -> Iterator[str]:
    yield ""
    yield f"## Failed: {plain(rule.title)}"
    yield ""
    yield plain(rule.explanation)
    if rule.remedy:
        yield ""
        yield f"**What would make it pass:** {plain(rule.remedy)}"
    if rule.field:
        yield ""
        yield f"The recipe sets it in {code(rule.field)}."
    if rule.offenders:
        yield ""
        yield "| what | severity | where | what to change |"
        yield "| --- | --- | --- | --- |"
        for one in rule.offenders[:MOST_OFFENDERS]:
            severity = plain((one.severity or "").lower())
            yield f"| {code(one.id)} | {severity} | {plain(one.subject)} | {plain(one.remedy)} |"
        if len(rule.offenders) > MOST_OFFENDERS:
            yield ""
            yield f"… and {len(rule.offenders) - MOST_OFFENDERS} more."


def _excepted(report: VerdictReport) -> Iterator[str]:
    if not report.excepted:
        return
    yield ""
    yield "## Excepted"
    yield ""
    yield "| vulnerability | package | who answers for it | why | until |"
    yield "| --- | --- | --- | --- | --- |"
    for one in report.excepted:
        until = f"{one.expires:%Y-%m-%d}" if one.expires else ""
        mark = f" **{one.standing}**" if one.standing is not Standing.HOLDS else ""
        yield (
            f"| {code(one.vulnerability)} | {plain(one.package)} | {plain(one.owner)} | "
            f"{plain(' '.join(one.reason.split()))} | {until}{mark} |"
        )
