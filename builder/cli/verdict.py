"""The command that shows the gate's verdict on an image."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.invocation import invocation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.client.api import Client
    from builder.verdicts.report import VerdictReport

_BUILD = re.compile("[0-9a-z]{26}")


class VerdictFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


def add_to(app: typer.Typer) -> None:
    app.command()(verdict)


def verdict(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="BUILD|IMAGE", help="A build's id, or an image by digest: DIGEST, HOST/REPOSITORY@DIGEST."
        ),
    ],
    form: Annotated[VerdictFormat, typer.Option("--format", help="How to tell it.")] = VerdictFormat.TEXT,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show the gate's verdict on an image.

    It says what passed, what failed, why, and what would make it pass; it ends with 2 if the image was stopped.
    """
    from pydantic import ValidationError

    from builder.cli.output import ascii_json
    from builder.cli.writing import write
    from builder.client.errors import AnswerUnexpected
    from builder.verdicts.markdown import markdown_text
    from builder.verdicts.page import page_text
    from builder.verdicts.report import VerdictReport

    with invocation_of(context).client() as client:
        try:
            report = VerdictReport.model_validate_json(client.verdict(build_of(client, subject)))
        except ValidationError as error:
            raise AnswerUnexpected(
                f"{client.url} answered with a verdict that cannot be read", hint="the server may be of another version"
            ) from error
    form = VerdictFormat.JSON if json else form
    made = {VerdictFormat.MARKDOWN: markdown_text, VerdictFormat.HTML: page_text}
    text = made[form](report) if form in made else report.json_text()
    if output is not None:
        write(output, text.encode())
    elif form is VerdictFormat.TEXT:
        print_verdict(report)
    else:
        typer.echo(ascii_json(text) if form is VerdictFormat.JSON else text, nl=False)
    if not report.passed:
        raise typer.Exit(exits.REFUSED)


def build_of(client: Client, subject: str) -> str:
    """Raises DigestInvalid, ReferenceInvalid, and what the client raises."""
    from builder.cli.evidence import digest_alone
    from builder.registry.reference import parse_reference

    if _BUILD.fullmatch(subject):
        return subject
    digest = digest_alone(subject) or parse_reference(subject).digest
    if digest is None:
        raise typer.BadParameter(f"{subject!r} names no image by its digest: a tag may have moved", param_hint="IMAGE")
    return client.image(digest).build


def print_verdict(report: VerdictReport, *, headline: str | None = None, notes: Sequence[tuple[str, str]] = ()) -> None:
    """What failed first, with what to change; the outcome last, where the eye is."""
    from builder.cli.output import print_table, say, styled
    from builder.verdicts.report import Standing

    for rule in report.failed:
        say(styled(f"FAILED  {rule.title}", "bold red"), styled(f"  [{rule.rule}]", "dim"))
        say(f"  {rule.explanation}")
        if rule.remedy:
            say(f"  to pass: {rule.remedy}")
        for one in rule.offenders:
            severity = f" ({one.severity.lower()})" if one.severity else ""
            say(styled(f"    {one.id}{severity} in {one.subject}", "red"), f": {one.remedy}")
        say()
    for rule in report.rules:
        if rule.passed:
            say(styled("passed  ", "green"), f"{rule.title}  ", styled(f"[{rule.rule}] {rule.explanation}", "dim"))
    if report.excepted:
        say()
        print_table(
            ("EXCEPTED", "PACKAGE", "OWNER", "UNTIL", "REASON"),
            [
                (
                    one.vulnerability,
                    one.package,
                    one.owner,
                    styled(
                        f"{one.expires:%Y-%m-%d} {'' if one.standing is Standing.HOLDS else one.standing}".strip()
                        if one.expires
                        else "",
                        "bold red" if one.standing is Standing.EXPIRED else "",
                    ),
                    one.reason,
                )
                for one in report.excepted
            ],
        )
    say()
    if report.policy is not None:
        say(f"policy      {report.policy.name} {report.policy.version}, {report.policy.digest}")
    sample = "  SAMPLE DATABASE: not complete" if report.database.sample else ""
    say(f"database    of {report.database.updated_at:%Y-%m-%d %H:%M} UTC, {report.database.digest}{sample}")
    for kind, digest in report.attestations.items():
        say(f"signed      {kind}  ", styled(digest, "dim"))
    for name, text in notes:
        say(f"{name:<11} {text}")
    say(f"image       {report.image}")
    say(styled(f"{report.recipe}: {headline or report.headline}", "bold green" if report.passed else "bold red"))
