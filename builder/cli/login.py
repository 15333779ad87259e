"""The commands that keep a key for the API where this user's other commands find it."""

from __future__ import annotations

import sys
import warnings
from getpass import GetPassWarning
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.invocation import DEFAULT_URL, Invocation, Json, invocation_of

if TYPE_CHECKING:
    from builder.client.whoami import Who


def add_to(app: typer.Typer) -> None:
    app.command("login")(login)
    app.command("logout")(logout)
    app.command("whoami")(whoami)


def login(
    context: typer.Context,
    url: Annotated[str | None, typer.Argument(metavar="URL", help="Where the API is.", show_default=False)] = None,
    from_stdin: Annotated[bool, typer.Option("--key-stdin", help="Read the key from standard input.")] = False,
    json: Json = False,
) -> None:
    """Ask for an API key, try it, and keep it.

    It goes into the client configuration, which nobody else can read. A key on the command line could be read by all.
    """
    from pydantic import SecretStr

    from builder.cli.configuration import Configuration, place_to_save, save
    from builder.cli.output import print_json, say
    from builder.client.api import Client
    from builder.client.whoami import who

    invocation = invocation_of(context)
    found = invocation.found
    kept = found.configuration if found else Configuration()
    address = (url or invocation.url or kept.url or DEFAULT_URL).rstrip("/")
    key = sys.stdin.readline().strip() if from_stdin else _asked(address)
    with Client(address, key) as client:
        told = who(client)
    path = found.path if found else place_to_save(invocation.configuration_file, Path.cwd(), Path.home())
    if kept.url is not None and kept.url.rstrip("/") != address:
        # Whom to trust was said of another service.
        kept = Configuration()
    save(path, kept.model_copy(update={"url": address, "key": SecretStr(key)}))
    if json:
        print_json({**_told(told), "url": address, "savedIn": str(path)})
    else:
        say(f"{told.name} may {_scopes(told)} at {address}; the key is in {path}")


def _asked(address: str) -> str:
    """What is typed, and not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", GetPassWarning)
        try:
            return str(typer.prompt(f"API key for {address}", hide_input=True, err=True))
        except GetPassWarning:
            typer.echo(err=True)
            raise typer.BadParameter(
                "there is no terminal to ask on, so pipe the key in", param_hint="--key-stdin"
            ) from None


def logout(context: typer.Context, json: Json = False) -> None:
    """Forget the key. It stays valid until an operator revokes it."""
    from builder.cli.configuration import save
    from builder.cli.output import print_json, say

    found = invocation_of(context).found
    there = found is not None and found.configuration.key is not None
    if found is not None and there:
        save(found.path, found.configuration.model_copy(update={"key": None}))
    if json:
        print_json({"forgotten": there})
    else:
        say(f"the key is no longer in {found.path}" if found and there else "no key was kept")


def whoami(context: typer.Context, json: Json = False) -> None:
    """Show what the service takes this user for."""
    from builder.cli.output import print_json, say
    from builder.client.whoami import who

    invocation: Invocation = invocation_of(context)
    with invocation.client() as client:
        told = who(client)
        address = client.url
    if json:
        print_json({**_told(told), "url": address})
        return
    until = f", until {told.expires_at:%Y-%m-%d %H:%M} UTC" if told.expires_at else ""
    say(f"{told.name} may {_scopes(told)} at {address}{until}")


def _scopes(told: Who) -> str:
    recipes = f" (of recipes: {', '.join(told.recipes)})" if told.recipes is not None else ""
    return (", ".join(told.scopes) or "nothing") + recipes


def _told(told: Who) -> dict[str, object]:
    return told.model_dump(mode="json", by_alias=True)
