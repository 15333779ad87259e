"""The commands about builds: ask for one, list, show, read the log, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import exits
from builder.cli.invocation import Json, invocation_of

if TYPE_CHECKING:
    from builder.client.models import Build, LogLine

BuildId = Annotated[str, typer.Argument(metavar="BUILD", help="The build's id.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    for command in (build, list_builds, show, logs, cancel):
        app.command("builds" if command is list_builds else None)(command)


def build(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE.yaml", help="A recipe the API knows, or a recipe file.", show_default=False),
    ],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the build to its end.")] = True,
    json: Json = False,
) -> None:
    """Build a golden image and follow it until it is released."""
    from builder.cli.following import follow_shown
    from builder.cli.output import print_json, say
    from builder.cli.summary import print_outcome

    wanted = _wanted(recipe)
    with invocation_of(context).client() as client:
        submitted = client.submit(wanted)
        if not wait:
            if json:
                print_json(_as_data(submitted))
            else:
                say(f"{submitted.recipe}: build {submitted.id} is {submitted.state}")
                say(f"`goldsmith logs --follow {submitted.id}` follows it")
            return
        ended = follow_shown(client, submitted, machine=json)
    if json:
        print_json(_as_data(ended))
    else:
        print_outcome(ended)
    if not ended.released:
        raise typer.Exit(exits.REFUSED)


def list_builds(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Option(help="Only builds of this recipe.")] = None,
    state: Annotated[str | None, typer.Option(help="Only builds in this state, such as released or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    json: Json = False,
) -> None:
    """List builds, newest first."""
    from builder.cli.output import print_json, print_table, say, state_text

    with invocation_of(context).client() as client:
        found = client.builds(recipe=recipe, state=state, limit=limit)
    if json:
        print_json({"builds": [_as_data(one) for one in found]})
    elif not found:
        say("there are no such builds")
    else:
        print_table(
            ("BUILD", "RECIPE", "STATE", "CREATED (UTC)", "TOOK", "OUTCOME"),
            [
                (
                    one.id,
                    one.recipe,
                    state_text(one.state),
                    f"{one.created_at:%Y-%m-%d %H:%M:%S}",
                    _took(one),
                    _end(one),
                )
                for one in found
            ],
        )


def show(context: typer.Context, build_id: BuildId, json: Json = False) -> None:
    """Show a build: its steps, and what came of it."""
    from builder.cli.output import print_json
    from builder.cli.summary import print_build

    with invocation_of(context).client() as client:
        found = client.build(build_id)
    if json:
        print_json(_as_data(found))
    else:
        print_build(found)


def logs(
    context: typer.Context,
    build_id: BuildId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the build has ended.")] = False,
    json: Json = False,
) -> None:
    """Print a build's log.

    With --json: one object a line.
    """
    from builder.cli.output import complain
    from builder.client.events import Logged

    with invocation_of(context).client() as client:
        if not follow:
            for line in client.log(build_id):
                _print_line(line, json=json)
            return
        for event in client.follow(build_id, on_lost=lambda why: complain(f"connection lost, trying again: {why}")):
            if isinstance(event, Logged):
                _print_line(event.line, json=json)


def cancel(context: typer.Context, build_id: BuildId, json: Json = False) -> None:
    """Cancel a build.

    One that a worker holds ends within seconds.
    """
    from builder.cli.output import print_json, say

    with invocation_of(context).client() as client:
        found = client.cancel(build_id)
    if json:
        print_json(_as_data(found))
    elif found.ended:
        say(f"build {found.id} is {found.state}")
    else:
        say(f"build {found.id} is {found.state}; it has been asked to end, which takes seconds")


def _wanted(recipe: str) -> str | dict[str, Any]:
    """A path is what looks like one; everything else is a name."""
    if not (recipe.endswith((".yaml", ".yml")) or "/" in recipe):
        return recipe
    from builder.recipes.catalogue import read_recipe_file

    read = read_recipe_file(Path(recipe))
    return read.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _print_line(line: LogLine, *, json: bool) -> None:
    from builder.cli.output import print_json, say, styled

    if json:
        print_json(line.model_dump(mode="json", by_alias=True), indent=None)
    else:
        say(styled(f"{line.step:<13}", "dim"), line.text)


def _as_data(build: Build) -> dict[str, Any]:
    return build.model_dump(mode="json", by_alias=True)


def _took(build: Build) -> str:
    from builder.cli.output import seconds_text

    return seconds_text((build.finished_at - build.created_at).total_seconds()) if build.finished_at else ""


def _end(build: Build) -> str:
    if build.problem is not None:
        return build.problem.title
    if build.released:
        return build.result.reference or ""
    running = [step.name for step in build.steps if step.state == "running"]
    return ", ".join(running)
