"""The entry point: commands put together, and every end turned into an exit code and a line that a person can read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from builder import __version__
from builder.cli import (
    admin,
    audit,
    builds,
    compare,
    databases,
    differing,
    drafting,
    exceptions,
    exits,
    findings,
    images,
    inventories,
    keys,
    ledger,
    locks,
    login,
    plans,
    policies,
    provenance,
    rebuilds,
    recipes,
    releases,
    retrying,
    verdict,
    verifying,
    webhooks,
)
from builder.cli.doctor import command as doctor
from builder.cli.invocation import DEFAULT_URL, Invocation
from builder.errors import GoldsmithError

_HELP = "Golden container images: built bit for bit, scanned, signed, recorded, and provable against what runs."
_GLOBAL_OPTIONS = ("--url", "--key", "--config")

app = typer.Typer(
    help=_HELP,
    epilog=exits.EPILOG,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"goldsmith {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(envvar="GOLDSMITH_URL", help=f"The API. [default: {DEFAULT_URL}]", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(envvar="GOLDSMITH_API_KEY", help="The API key. Others on this machine see it; use a file."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(envvar="GOLDSMITH_CLIENT_CONFIG", help="The client configuration, a JSON file."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    context.obj = Invocation(url or None, key or None, config)


locks.add_to(recipes.app)
plans.add_to(recipes.app)
drafting.add_to(recipes.app)
app.add_typer(recipes.app, name="recipe")
app.add_typer(admin.app, name="admin")
app.add_typer(databases.app, name="database")
app.add_typer(exceptions.app, name="exceptions")
app.add_typer(keys.app, name="key")
# As whoever thinks of `builds`, `recipes` and `images` writes it.
app.add_typer(keys.app, name="keys", hidden=True)
app.add_typer(ledger.app, name="ledger")
app.add_typer(policies.app, name="policy")
app.add_typer(webhooks.app, name="webhook")
login.add_to(app)
builds.add_to(app)
retrying.add_to(app)
rebuilds.add_to(app)
recipes.add_to(app)
provenance.add_to(app)
verifying.add_to(app)
compare.add_to(app)
differing.add_to(app)
inventories.add_to(app)
verdict.add_to(app)
findings.add_to(app)
releases.add_to(app)
images.add_to(app)
doctor.add_to(app)
audit.add_to(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the answer is the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A locale without our characters must not end a command half way.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    given = _global_options_first(list(sys.argv[1:] if arguments is None else arguments))
    try:
        ended = app(args=given, prog_name="goldsmith", standalone_mode=False)
    except typer.TyperException as error:
        _usage(error)
        return exits.USAGE
    except typer.Abort:
        # By a command that has said already what goes on without it.
        return exits.INTERRUPTED
    except GoldsmithError as error:
        from builder.cli.problems import tell_error

        tell_error(error, machine="--json" in given)
        return exits.FAILED
    if ended == exits.INTERRUPTED:
        from builder.cli.output import complain

        complain("goldsmith: interrupted")
    return ended if isinstance(ended, int) else exits.DONE


def _global_options_first(arguments: list[str]) -> list[str]:
    """Let --url, --key and --config stand behind the command too, where people write them."""
    first: list[str] = []
    rest: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        if argument == "--":
            rest += [argument, *pending]
        elif argument in _GLOBAL_OPTIONS:
            value = next(pending, None)
            if value is None:
                return [argument]
            first += [argument, value]
        elif argument.startswith(tuple(f"{option}=" for option in _GLOBAL_OPTIONS)):
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest


def _usage(error: typer.TyperException) -> None:
    from builder.cli.output import complain

    context = getattr(error, "ctx", None)
    command = context.command_path if context else "goldsmith"
    message = error.format_message()
    if not message.startswith("Usage:"):
        # One line; what Typer and Pydantic put around it helps nobody.
        message = " ".join(message.replace("Value error, ", "").split())
    if message.startswith("Usage:"):
        # A group without a command: what is told is its help.
        typer.echo(message, err=True)
    else:
        complain(f"goldsmith: {message.rstrip('.')} (see `{command} --help`)")
