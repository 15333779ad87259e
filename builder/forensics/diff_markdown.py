"""What changed between two releases, as Markdown, for release notes and tickets. Nothing of an image becomes markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from builder.forensics.changes import lines_between
from builder.forensics.diff import Diff, FindingTold, MemberTold
from builder.forensics.markdown import code, plain

_MOST_ROWS = 500


def markdown_text(told: Diff) -> str:
    return "\n".join(_lines(told)) + "\n"


def _lines(told: Diff) -> Iterator[str]:
    yield f"# {plain(told.headline[:1].upper() + told.headline[1:])}"
    yield from _table("| | before | after |", _releases(told))
    for why in told.undetermined:
        yield from ("", f"**Undetermined:** {plain(why)}")
    for note in told.notes:
        yield from ("", f"**Note:** {plain(note)}")
    yield from _section("Packages", "| package | | before | after | paths |", _packages(told))
    yield from _section("Paths of no changed package", "| path | how |", _files(told), told.totals.files)
    yield from _section("Configuration", "| member | before | after |", _members(told.configuration or ()))
    yield from _section("Recipe", "| member | before | after |", _members(told.recipe))
    if told.findings is not None:
        heading = "| severity | vulnerability | package | installed | fixed in |"
        yield from _section("New findings", heading, _findings(told.findings.new))
        yield from _section("Findings gone", heading, _findings(told.findings.gone))
        yield from _section("Findings still there", heading, _findings(told.findings.remaining))


def _section(title: str, heading: str, rows: Sequence[str], total: int | None = None) -> Iterator[str]:
    if not rows:
        return
    yield from ("", f"## {title}")
    yield from _table(heading, rows[:_MOST_ROWS])
    left = (total or len(rows)) - min(len(rows), _MOST_ROWS)
    if left > 0:
        yield from ("", f"… and {left} more.")


def _table(heading: str, rows: Sequence[str]) -> Iterator[str]:
    yield from ("", heading, "| --- " * (heading.count("|") - 1) + "|", *rows)


def _releases(told: Diff) -> list[str]:
    releases = (told.before, told.after)
    sandbox = [" (SANDBOX: proves nothing to others)" if one.verified.sandbox else "" for one in releases]
    signed = [f"{code(one.verified.identity)}{mark}" for one, mark in zip(releases, sandbox, strict=True)]
    return [
        _row("image", *(code(one.image) for one in releases)),
        _row("digest", *(code(one.digest) for one in releases)),
        _row("signed by", *signed),
        _row("paths", *(str(one.entries) for one in releases)),
        _row("packages", *(str(one.packages) for one in releases)),
    ]


def _packages(told: Diff) -> list[str]:
    return [
        _row(code(one.name), one.change, *(_values(versions) for versions in (one.before, one.after)), str(one.paths))
        for one in told.packages
    ]


def _files(told: Diff) -> list[str]:
    return [
        _row(
            code(one.path) + (f" {plain(one.package)}" if one.package else ""),
            "<br>".join(
                [
                    plain(", ".join(one.kinds)),
                    *(code(line) for line in lines_between(one.kinds, one.before, one.after, one.moved_from)),
                ]
            ),
        )
        for one in told.files
    ]


def _members(members: Sequence[MemberTold]) -> list[str]:
    return [
        _row(code(one.member), *("none" if value is None else code(value) for value in (one.before, one.after)))
        for one in members
    ]


def _findings(findings: Sequence[FindingTold]) -> list[str]:
    rows = []
    for one in findings:
        there = one.after or one.before
        assert there is not None, "a finding is of one release at least"
        fixed = plain(there.fixed) if there.fixed else "no fix"
        rows.append(_row(there.severity, plain(one.id), code(one.package), plain(there.installed), fixed))
    return rows


def _values(values: tuple[str, ...]) -> str:
    return code(", ".join(values)) if values else ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
