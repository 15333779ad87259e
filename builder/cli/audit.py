"""The command that shows the audit log, on the machine that has the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.invocation import Json
from builder.cli.keys import opened_database

if TYPE_CHECKING:
    from builder.store.callers import AuditEntry


def add_to(app: typer.Typer) -> None:
    app.command("audit")(show)


def show(
    caller: Annotated[
        str | None, typer.Option("--caller", metavar="NAME", help="Only what this key's owner did.")
    ] = None,
    before: Annotated[int | None, typer.Option("--before", min=1, help="Only entries older than this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    json: Json = False,
) -> None:
    """Show who did what through the API.

    The newest first, with who was refused. For operators: it reads the database that the GOLDSMITH_* settings name.
    """
    from builder.cli.output import print_json, print_table, say, styled
    from builder.store import audit

    with opened_database() as database, database.read() as session:
        found = audit.page(session, caller=caller, before=before, limit=limit)
    if json:
        print_json({"entries": [_told(one) for one in found]})
    elif not found:
        say("there are no such entries")
    else:
        print_table(
            ("ENTRY", "AT", "CALLER", "STATUS", "ACTION", "SUBJECT"),
            [
                (
                    str(one.id),
                    f"{datetime.fromtimestamp(one.at, UTC):%Y-%m-%d %H:%M:%S}",
                    one.caller or "-",
                    styled(str(one.status), "red" if one.status >= 400 else ""),
                    one.action,
                    one.subject,
                )
                for one in found
            ],
        )


def _told(one: AuditEntry) -> dict[str, object]:
    return {
        "id": one.id,
        "at": datetime.fromtimestamp(one.at, UTC).isoformat(),
        "caller": one.caller,
        "key": one.key_id,
        "action": one.action,
        "subject": one.subject,
        "status": one.status,
        "requestId": one.request_id,
    }
