"""The commands about API keys, on the machine that has the database: make one, list them, revoke one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.invocation import DEFAULT_URL, Invocation, Json, invocation_of
from builder.cli.moments import end_of
from builder.store.scopes import TEAM_PATTERN, Scope

if TYPE_CHECKING:
    from rich.text import Text

    from builder.store.callers import ApiKey
    from builder.store.database import Database

app = typer.Typer(help="For operators: API keys. Uses GOLDSMITH_* settings.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.", show_default=False)]
SaveOption = Annotated[
    bool, typer.Option("--save", help="Put it into the client configuration with the URL; do not print it.")
]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", metavar="DAY|DAYS", help="Until when: a day, 2027-01-31, or 90d. [default: for ever]"),
]


@app.command("create")
def create(
    context: typer.Context,
    name: NameArgument,
    scope: Annotated[list[Scope], typer.Option("--scope", help="What it may do; can be repeated.", show_default=False)],
    expires: ExpiresOption = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="The only recipe it may build, or a pattern; can be repeated. [default: any]"),
    ] = None,
    team: Annotated[
        str | None,
        typer.Option("--team", metavar="TEAM", help="Whose limit of running builds it shares. [default: its own]"),
    ] = None,
    save: SaveOption = False,
    json: Json = False,
) -> None:
    """Make an API key and print it, this once.

    Only a hash of it is kept.
    """
    make_key(invocation_of(context), name, scope, expires, recipes=recipe, team=team, save=save, json=json)


@app.command("list")
def list_keys(
    everything: Annotated[bool, typer.Option("--all", help="Those that were revoked, too.")] = False,
    json: Json = False,
) -> None:
    """List the keys: what each may do, until when, and when it was last used."""
    from builder.cli.output import print_json, print_table, say
    from builder.store import keys

    with opened_database() as database, database.read() as session:
        found = keys.every(session, revoked=everything)
    if json:
        print_json({"keys": [_told(one) for one in found]})
    elif not found:
        say("there are no keys")
    else:
        print_table(
            ("KEY", "NAME", "STATE", "SCOPES", "RECIPES", "TEAM", "CREATED", "EXPIRES", "LAST USED"),
            [
                (
                    one.id,
                    one.name,
                    _state_text(one),
                    ", ".join(one.scopes),
                    "any" if one.recipes is None else ", ".join(one.recipes),
                    one.team or "",
                    _day(one.created_at),
                    _day(one.expires_at),
                    _day(one.last_used_at),
                )
                for one in found
            ],
        )


@app.command("revoke")
def revoke(
    named: Annotated[str, typer.Argument(metavar="KEY|NAME", help="As `key list` shows it.", show_default=False)],
    json: Json = False,
) -> None:
    """End a key, at once and for good."""
    from builder.cli.output import print_json, say
    from builder.store import keys

    with opened_database() as database, database.write() as session:
        ended = keys.revoke(session, named)
    if json:
        print_json(_told(ended))
    else:
        say(f"the key {ended.id} of {ended.name!r} is revoked")


@contextmanager
def opened_database() -> Iterator[Database]:
    """The database of the settings, its schema up to date. Raises DatabaseAbsent."""
    from builder.settings import load_settings
    from builder.store.database import Database

    database = Database.existing(load_settings().database_url)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


def make_key(
    invocation: Invocation,
    name: str,
    scopes: Collection[Scope],
    expires: str | None,
    *,
    recipes: Collection[str] | None = None,
    team: str | None = None,
    save: bool,
    json: bool,
) -> None:
    from builder.cli.output import complain, print_json
    from builder.store.keys import create_key, find_key

    if not (0 < len(name) <= 100 and name.isprintable()):
        raise typer.BadParameter("a name has 1 to 100 printable characters", param_hint="NAME")
    for pattern in recipes or ():
        if not re.fullmatch("[a-z0-9*-]{1,63}", pattern):
            raise typer.BadParameter("lower-case letters, digits, - and *", param_hint="--recipe")
    if team is not None and not re.fullmatch(TEAM_PATTERN, team):
        raise typer.BadParameter("1 to 63 lower-case letters, digits, ., _ and -", param_hint="--team")
    end = end_of(expires) if expires is not None else None
    if end is not None and end <= datetime.now(UTC):
        raise typer.BadParameter(f"{expires} is not in the future", param_hint="--expires")
    invocation.found  # noqa: B018  a configuration with a fault is told before there is a key
    with opened_database() as database, database.write() as session:
        key = create_key(
            session, name, scopes,
            expires_at=end.timestamp() if end else None, recipes=recipes or None, team=team,
        )  # fmt: skip
        made = find_key(session, key)
        assert made is not None, "it was just made"
        told = {member: value for member, value in _told(made).items() if member not in ("lastUsedAt", "revokedAt")}
    if save:
        _save(invocation, key, told, json)
    elif json:
        print_json({**told, "key": key})
    else:
        typer.echo(key)
        until = f", until {end:%Y-%m-%d %H:%M} UTC" if end else ""
        complain(f"This is the key of {name!r}, for {', '.join(made.scopes)}{until}. It cannot be shown again.")


def _save(invocation: Invocation, key: str, told: dict[str, Any], json: bool) -> None:
    from pydantic import SecretStr

    from builder.cli.configuration import Configuration, place_to_save
    from builder.cli.configuration import save as save_configuration
    from builder.cli.output import print_json, say

    found = invocation.found
    kept = found.configuration if found else Configuration()
    path = found.path if found else place_to_save(invocation.configuration_file, Path.cwd(), Path.home())
    url = invocation.url or kept.url or DEFAULT_URL
    save_configuration(path, kept.model_copy(update={"url": url, "key": SecretStr(key)}))
    if json:
        print_json({**told, "url": url, "savedIn": str(path)})
    else:
        say(f"the key of {told['name']!r} for {url} is in {path}")


def _told(one: ApiKey) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "scopes": one.scopes,
        "recipes": one.recipes,
        "team": one.team,
        "createdAt": _instant(one.created_at),
        "expiresAt": _instant(one.expires_at),
        "lastUsedAt": _instant(one.last_used_at),
        "revokedAt": _instant(one.revoked_at),
    }


def _instant(at: float | None) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat() if at is not None else None


def _day(at: float | None) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" if at is not None else "never"


def _state_text(one: ApiKey) -> Text:
    from builder.cli.output import styled
    from builder.store.keys import expired

    if one.revoked_at is not None:
        return styled("revoked", "dim")
    return styled("EXPIRED", "bold red") if expired(one, datetime.now(UTC).timestamp()) else styled("active", "green")
