"""The commands about exceptions: make one, import a supplier's, list, revoke. The service signs them."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import exits
from builder.cli.invocation import Json, invocation_of
from builder.cli.moments import end_of
from builder.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.client.models import ExceptionTold

app = typer.Typer(help="Exceptions from the policy: each has an owner and an end.", no_args_is_help=True)

OwnerOption = Annotated[str, typer.Option("--owner", metavar="WHO", help="Who answers for it.", show_default=False)]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="WHY", help="Why it may be.", show_default=False)]
ExpiresOption = Annotated[
    str,
    typer.Option("--expires", metavar="DAY|DAYS", help="A day, 2027-01-31, or 90d.", show_default=False),
]
RecipeOption = Annotated[str | None, typer.Option("--recipe", help="Only in images of this recipe.")]
DigestOption = Annotated[str | None, typer.Option("--digest", help="Only in this image.")]


class VexFileUnreadable(Rejected):
    slug = "vex-file-unreadable"
    title = "The VEX file cannot be read"


@app.command("add")
def add(
    context: typer.Context,
    vulnerability: Annotated[str, typer.Argument(metavar="CVE", help="Such as CVE-2023-4911.", show_default=False)],
    owner: OwnerOption,
    reason: ReasonOption,
    expires: ExpiresOption,
    package: Annotated[
        str | None, typer.Option("--package", help="Only in this package: a name or package URL.")
    ] = None,
    recipe: RecipeOption = None,
    digest: DigestOption = None,
    status: Annotated[
        str, typer.Option("--status", help="affected (an accepted risk), not_affected or fixed.")
    ] = "affected",
    justification: Annotated[
        str | None, typer.Option("--justification", help="OpenVEX's word for why it is not_affected.")
    ] = None,
    json: Json = False,
) -> None:
    """Except a vulnerability for a while. It counts once the service has signed it."""
    told = {
        "vulnerability": vulnerability, "package": package, "recipe": recipe, "digest": digest, "owner": owner,
        "reason": reason, "expires": end_of(expires).isoformat(), "status": status, "justification": justification,
    }  # fmt: skip
    with invocation_of(context).client() as client:
        made = client.submit_exception({name: value for name, value in told.items() if value is not None})
    _print([made], json)


@app.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An OpenVEX document, JSON.", show_default=False)],
    owner: OwnerOption,
    reason: ReasonOption,
    expires: ExpiresOption,
    recipe: RecipeOption = None,
    digest: DigestOption = None,
    json: Json = False,
) -> None:
    """Import what a supplier's VEX file says of packages.

    Only not_affected and fixed count, for packages named by their package URL. Who imports it answers for it.
    """
    from builder.cli.output import complain

    try:
        document = json_text.loads(file.read_bytes())
    except OSError as error:
        raise VexFileUnreadable(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise VexFileUnreadable(f"{file} is not JSON") from error
    told = {"document": document, "owner": owner, "reason": reason, "expires": end_of(expires).isoformat()}
    scope = {name: value for name, value in (("recipe", recipe), ("digest", digest)) if value is not None}
    with invocation_of(context).client() as client:
        made, left_out = client.import_exceptions({**told, **scope})
    for line in left_out:
        complain(f"left out: {line}", "yellow")
    _print(made, json)


@app.command("list")
def list_exceptions(
    context: typer.Context,
    vulnerability: Annotated[str | None, typer.Option("--vulnerability", help="Only for this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    json: Json = False,
) -> None:
    """List exceptions, newest first. It ends with 2 if one of them has expired and nobody has revoked or renewed it."""
    from builder.cli.output import complain, say

    with invocation_of(context).client() as client:
        found = client.exceptions(vulnerability=vulnerability, limit=limit)
    if not found and not json:
        say("there are no exceptions")
    elif json or found:
        _print(found, json)
    outdated = [one for one in found if one.state == "EXPIRED"]
    if outdated:
        complain(
            f"goldsmith: {len(outdated)} EXPIRED, and count no more: {', '.join(one.id for one in outdated[:5])}",
            "bold red",
        )
        raise typer.Exit(exits.REFUSED)


@app.command("revoke")
def revoke(
    context: typer.Context,
    exception_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    json: Json = False,
) -> None:
    """End an exception. It does not count any more."""
    with invocation_of(context).client() as client:
        ended = client.revoke_exception(exception_id)
    _print([ended], json)


def _print(found: Sequence[ExceptionTold], json: bool) -> None:
    from builder.cli.output import print_json, print_table, styled

    if json:
        data: list[Any] = [one.model_dump(mode="json", by_alias=True) for one in found]
        print_json({"exceptions": data})
        return
    styles = {"EXPIRED": "bold red", "refused": "red", "active": "green", "pending": "yellow"}
    print_table(
        ("EXCEPTION", "STATE", "VULNERABILITY", "SCOPE", "OWNER", "UNTIL", "REASON"),
        [
            (
                one.id,
                styled(one.state, styles.get(one.state, "dim")),
                one.vulnerability,
                one.scope,
                one.owner,
                f"{one.expires:%Y-%m-%d} ({one.days_left} days)",
                one.problem.detail if one.problem else one.reason,
            )
            for one in found
        ],
    )
