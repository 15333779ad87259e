"""The command that asks again for a build that came to nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from builder.cli.builds import Wait, print_asked, print_ended
from builder.cli.invocation import Json, invocation_of


def add_to(app: typer.Typer) -> None:
    app.command("retry")(retry)


def retry(
    context: typer.Context,
    build_id: Annotated[
        str, typer.Argument(metavar="BUILD", help="One that failed or was cancelled.", show_default=False)
    ],
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Ask again for a build that came to nothing, and follow it.

    It failed or was cancelled; recipe, lock and options are as they were.
    """
    from builder.cli.following import follow_shown
    from builder.client import retries

    with invocation_of(context).client() as client:
        submitted = retries.retry(client, build_id)
        if not wait:
            print_asked(submitted, json=json)
            return
        ended = follow_shown(client, submitted, machine=json)
    print_ended(ended, json=json)
