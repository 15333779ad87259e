"""The commands about what is found in released images since: list it, and have them scanned again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.invocation import Json, invocation_of

if TYPE_CHECKING:
    from builder.client.models import FindingTold

_POLL_SECONDS = 0.5


def add_to(app: typer.Typer) -> None:
    app.command("findings")(list_findings)
    app.command()(rescan)


def list_findings(
    context: typer.Context,
    new: Annotated[bool, typer.Option("--new", help="Only what has come since the release.")] = False,
    above: Annotated[bool, typer.Option("--above-policy", help="Only what the policy does not allow.")] = False,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Only in images of this recipe.")] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="Only in this image.")] = None,
    severity: Annotated[str | None, typer.Option("--severity", help="Such as high.")] = None,
    vulnerability: Annotated[str | None, typer.Option("--vulnerability", help="Such as CVE-2023-4911.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    json: Json = False,
) -> None:
    """List what is found in released images.

    It ends with 2 if something is listed that has come since a release and that the policy does not allow.
    """
    from builder.cli.output import print_json, say

    wanted = {
        "new": "true" if new else None, "abovePolicy": "true" if above else None, "recipe": recipe, "digest": digest,
        "severity": severity.upper() if severity else None, "vulnerability": vulnerability,
    }  # fmt: skip
    with invocation_of(context).client() as client:
        found = client.findings({name: value for name, value in wanted.items() if value is not None}, limit=limit)
    if json:
        print_json({"findings": [one.model_dump(mode="json", by_alias=True) for one in found]})
    elif not found:
        say("there are no such findings")
    else:
        _print(found)
    if any(one.above_policy and one.since_release for one in found):
        raise typer.Exit(exits.REFUSED)


def rescan(
    context: typer.Context,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")] = True,
    json: Json = False,
) -> None:
    """Scan released images again, from their stored SBOMs.

    Images for which neither the database nor the exceptions have changed are left as they are.
    """
    from builder.cli.output import print_json, say

    with invocation_of(context).client() as client:
        told = client.submit_rescan()
        asked = told.requested_at
        while wait and told.state == "queued" and told.requested_at == asked:
            time.sleep(_POLL_SECONDS)
            told = client.rescan()
    if json:
        print_json(told.model_dump(mode="json", by_alias=True))
    else:
        say(f"rescan: {told.state}" + (f": {told.problem.detail}" if told.problem else ""))
    if told.state == "failed":
        raise typer.Exit(exits.FAILED)


def _print(found: list[FindingTold]) -> None:
    from builder.cli.output import print_table, styled

    print_table(
        ("VULNERABILITY", "SEVERITY", "PACKAGE", "INSTALLED", "FIXED", "RECIPE", "FIRST SEEN", "STATE", "IMAGE"),
        [
            (
                one.vulnerability,
                one.severity.lower(),
                one.package,
                one.installed,
                one.fixed or "",
                one.recipe,
                f"{one.first_seen:%Y-%m-%d}",
                styled(_state(one), "bold red" if one.above_policy else "dim"),
                one.digest,
            )
            for one in found
        ],
    )


def _state(one: FindingTold) -> str:
    state = "ABOVE POLICY" if one.above_policy else f"excepted by {one.exception}" if one.exception else "allowed"
    return f"new, {state}" if one.since_release else state
