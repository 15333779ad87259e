"""What changed between two releases, on a terminal: packages first, the sum of it last, where the eye is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout

from rich.text import Text

from builder.cli.output import say, styled
from builder.counted import counted
from builder.forensics.changes import lines_between
from builder.forensics.diff import Diff, FindingTold, MemberTold, PackageChange, Verdict

_SEVERITY_STYLES = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow", "LOW": "cyan"}
_CHANGE_STYLES = {
    PackageChange.ADDED: "green",
    PackageChange.REMOVED: "red",
    PackageChange.DOWNGRADED: "bold yellow",
}
_MOST = 100
_MOST_TEXT = 160


def print_diff(told: Diff) -> None:
    _print_packages(told)
    _print_files(told)
    _print_members("CONFIGURATION", told.configuration)
    _print_members("RECIPE", told.recipe)
    _print_findings(told)
    _print_summary(told)


def diff_text(told: Diff) -> str:
    """What `print_diff` prints, without colours."""
    recording = io.StringIO()
    with redirect_stdout(recording):
        print_diff(told)
    return recording.getvalue()


def _print_packages(told: Diff) -> None:
    if not told.packages:
        return
    _heading("PACKAGES", len(told.packages))
    for one in told.packages:
        kinds = ", ".join(f"{count} {kind}" for kind, count in one.by_kind.items())
        paths = f"{counted(one.paths, 'path')}: {kinds}" if one.paths else "no path differs"
        mark = f"  {one.change.upper()}" if one.change is PackageChange.DOWNGRADED else ""
        say(Text("  "), styled(f"{one}{mark}", _CHANGE_STYLES.get(one.change, "")), styled(f"  {paths}", "dim"))
    say()


def _print_files(told: Diff) -> None:
    if not told.totals.files:
        return
    _heading("PATHS of no changed package", told.totals.files)
    for one in told.files[:_MOST]:
        package = f"  {one.package}" if one.package else ""
        say(f"  {one.path}  {', '.join(one.kinds)}", styled(package, "dim"))
        for line in lines_between(one.kinds, one.before, one.after, one.moved_from):
            say(styled(f"      {line}", "dim"))
    _more(told.totals.files, len(told.files))
    say()


def _print_members(name: str, members: Sequence[MemberTold] | None) -> None:
    if not members:
        return
    _heading(name, len(members))
    for one in members:
        say(f"  {one.member}")
        say(styled(f"      {_value(one.before)} -> {_value(one.after)}", "dim"))
    say()


def _print_findings(told: Diff) -> None:
    if told.findings is None:
        return
    found = told.findings
    if not (found.new or found.gone or found.remaining):
        return
    say(
        Text("FINDINGS", "bold"),
        f"  {len(found.new)} new, {len(found.gone)} gone, {len(found.remaining)} still there",
    )
    for word, group in (("new ", found.new), ("gone", found.gone)):
        for one in group[:_MOST]:
            _print_finding(word, one)
        _more(len(group), len(group))
    say()


def _print_finding(word: str, one: FindingTold) -> None:
    there = one.after or one.before
    assert there is not None, "a finding is of one release at least"
    fixed = f", fixed in {there.fixed}" if there.fixed else ""
    severity = styled(f"{there.severity:<8}", _SEVERITY_STYLES.get(there.severity, "dim"))
    say(f"  {word}  ", severity, f"  {one.id}  {one.package} {there.installed}{fixed}")


def _print_summary(told: Diff) -> None:
    for name, release in (("before", told.before), ("after", told.after)):
        say(f"{name:<10}  {release.image}")
        say(styled(f"            {release.entries} paths, {counted(release.packages, 'package')}", "dim"))
    for why in told.undetermined:
        say(styled(f"UNDETERMINED  {why}", "yellow"))
    for note in told.notes:
        say(styled(note, "yellow"))
    verified = told.after.verified
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
    if told.before.verified.sandbox or verified.sandbox:
        say(styled("SANDBOX signature: for trying things out, it proves nothing to others.", "bold yellow"))
    say(f"signed by   {verified.identity}")
    say(styled(told.headline, "bold green" if told.verdict is Verdict.IDENTICAL else "bold yellow"))


def _heading(name: str, count: int) -> None:
    say(Text(name, "bold"), f"  {count}")


def _more(total: int, listed: int) -> None:
    left = total - min(listed, _MOST)
    if left > 0:
        say(f"  … and {left} more; --format json lists up to 10,000")


def _value(value: str | None) -> str:
    if value is None:
        return "none"
    return value if len(value) <= _MOST_TEXT else value[:_MOST_TEXT] + "…"
