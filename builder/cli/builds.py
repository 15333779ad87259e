"""The commands about builds: ask for one, list, show, read the log, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import exits
from builder.cli.invocation import Json, invocation_of
from builder.cli.wanted import (
    Parameters,
    PathOption,
    RecipeArgument,
    RefOption,
    RepositoryOption,
    file_pointed_out,
    lock_beside,
    parameters_of,
    wanted_recipe,
)
from builder.store.states import State

if TYPE_CHECKING:
    from builder.client.models import Build, LogLine

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the build to its end.")]
BuildId = Annotated[str, typer.Argument(metavar="BUILD", help="The build's id.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    for command in (build, list_builds, show, logs, cancel):
        app.command("builds" if command is list_builds else None)(command)


def build(
    context: typer.Context,
    recipe: RecipeArgument = None,
    parameter: Parameters = None,
    repository: RepositoryOption = None,
    ref: RefOption = None,
    path: PathOption = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Refuse to resolve: without a lock nothing is built.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Resolve anew, whatever the lock says.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Build although the same was released before.")] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Build a golden image and follow it until it is released.

    A lock beside the recipe is used exactly. What was released before from the same inputs is not built again.
    """
    from builder.cli.following import follow_shown
    from builder.cli.output import say

    if locked and update:
        raise typer.BadParameter("give one of --locked and --update")
    use = "require" if locked else "update" if update else "prefer"
    given = parameters_of(parameter)
    wanted = wanted_recipe(recipe, repository, ref, path, given)
    lock = None if update else lock_beside(recipe)
    with file_pointed_out(recipe), invocation_of(context).client() as client:
        submitted = client.submit(wanted, parameters=given, lock=lock, lock_use=use, force=force)
        if submitted.ended:
            ended = submitted
        elif not wait:
            print_asked(submitted, json=json)
            return
        else:
            ended = follow_shown(client, submitted, machine=json)
    before = submitted.id if submitted.ended else ended.unchanged_since
    if before and not json:
        say(f"{ended.recipe}: the same inputs were released before, by build {before}; --force builds anew")
    print_ended(ended, json=json)


def list_builds(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Option(help="Only builds of this recipe.")] = None,
    state: Annotated[
        State | None, typer.Option(metavar="STATE", help="Only builds in this state, such as released or failed.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    json: Json = False,
) -> None:
    """List builds, newest first."""
    from builder.cli.output import print_json, print_table, say, state_text

    with invocation_of(context).client() as client:
        found = client.builds(recipe=recipe, state=state, limit=limit)
    if json:
        print_json({"builds": [as_data(one) for one in found]})
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
        print_json(as_data(found))
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
        print_json(as_data(found))
    elif found.ended:
        say(f"build {found.id} is {found.state}")
    else:
        say(f"build {found.id} is {found.state}; it has been asked to end, which takes seconds")


def print_asked(submitted: Build, *, json: bool) -> None:
    """For whoever does not wait."""
    from builder.cli.output import print_json, say

    if json:
        print_json(as_data(submitted))
    else:
        say(f"{submitted.recipe}: build {submitted.id} is {submitted.state}")
        say(f"`goldsmith logs --follow {submitted.id}` follows it")


def print_ended(ended: Build, *, json: bool) -> None:
    """For whoever waited. Ends the command with 2 if it came to nothing."""
    from builder.cli.output import print_json
    from builder.cli.summary import print_build, print_outcome

    if json:
        print_json(as_data(ended))
    elif ended.released or not ended.succeeded:
        print_outcome(ended)
    else:
        print_build(ended)
    if not ended.succeeded:
        raise typer.Exit(exits.REFUSED)


def _print_line(line: LogLine, *, json: bool) -> None:
    from builder.cli.output import print_json, say, styled

    if json:
        print_json(line.model_dump(mode="json", by_alias=True), indent=None)
    else:
        say(styled(f"{line.step:<13}", "dim"), line.text)


def as_data(build: Build) -> dict[str, Any]:
    return build.model_dump(mode="json", by_alias=True)


def _took(build: Build) -> str:
    from builder.cli.output import seconds_text

    return seconds_text((build.finished_at - build.created_at).total_seconds()) if build.finished_at else ""


def _end(build: Build) -> str:
    if build.problem is not None:
        return build.problem.title
    if build.released:
        return build.result.reference or ""
    if build.rebuild is not None:
        return build.rebuild.outcome
    if build.comparison is not None:
        return f"{build.comparison.name}: {build.comparison.verdict}"
    running = [step.name for step in build.steps if step.state == "running"]
    return ", ".join(running)
