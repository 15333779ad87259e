"""The command that finds releases, as auditors ask for them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.invocation import Json, invocation_of
from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.client.models import Released

_FORMS = ("jsonl", "csv")


class TimeInvalid(Rejected):
    slug = "time-invalid"
    title = "The time cannot be read"


def add_to(app: typer.Typer) -> None:
    app.command("releases")(find)


def find(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Only of this recipe.")] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="Only of this image.")] = None,
    requester: Annotated[str | None, typer.Option("--requester", help="Only what this key's owner asked for.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Released then or later: 2026-03-01, or RFC 3339.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Released before then.")] = None,
    package: Annotated[
        str | None, typer.Option("--package", metavar="NAME[@VERSION]", help="Only images that have this package.")
    ] = None,
    finding: Annotated[
        str | None, typer.Option("--finding", metavar="CVE", help="Only images with this vulnerability.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    export: Annotated[
        str | None, typer.Option("--export", metavar="jsonl|csv", help="All of them, in this form, without a limit.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the export there.")
    ] = None,
    json: Json = False,
) -> None:
    """Find releases, the newest first.

    A package is found by its own or its source package's name; a version may be upstream's: openssl@3.0.15.
    """
    from builder.cli.output import print_json, say

    if export is not None and export not in _FORMS:
        raise typer.BadParameter(f"{export!r} is none of {', '.join(_FORMS)}", param_hint="--export")
    if output is not None and export is None:
        raise typer.BadParameter("say in which form, with --export", param_hint="--output")
    asked = {
        "recipe": recipe, "digest": digest, "requester": requester, "package": package, "finding": finding,
        "since": _time(since, "--since"), "until": _time(until, "--until"),
    }  # fmt: skip
    wanted = {name: value for name, value in asked.items() if value is not None}
    with invocation_of(context).client() as client:
        if export is not None:
            _export(client.exported_releases(wanted, export), output)
            return
        found = client.releases(wanted, limit=limit)
    if json:
        print_json({"releases": [one.model_dump(mode="json", by_alias=True) for one in found]})
    elif not found:
        say("there are no such releases")
    else:
        _print(found)


def _export(content: bytes, output: Path | None) -> None:
    from builder.cli.writing import write

    if output is not None:
        write(output, content)
    else:
        typer.echo(content, nl=False)


def _time(text: str | None, option: str) -> str | None:
    """A day alone is its beginning, in UTC; a time says its zone."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise TimeInvalid(f"{option}: {text!r} is no time", hint="write 2026-03-01 or 2026-03-01T12:00:00Z") from error
    if moment.tzinfo is None and len(text) > len("2026-03-01"):
        raise TimeInvalid(f"{option}: {text!r} has no time zone", hint="add Z for UTC, or an offset such as +01:00")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _print(found: list[Released]) -> None:
    from builder.cli.output import print_table

    print_table(
        ("RELEASED", "RECIPE", "REQUESTER", "TAGS", "RECORD", "IMAGE"),
        [
            (
                f"{one.released_at:%Y-%m-%d %H:%M}",
                one.recipe,
                one.requester,
                ", ".join(one.tags),
                str(one.record),
                one.reference,
            )
            for one in found
        ],
    )
