"""`goldsmith recipe plan`: what a build would do, without building anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.client.models import Build, Plan


class NotPlanned(Rejected):
    slug = "not-planned"
    title = "There is no plan"


def add_to(recipe: typer.Typer) -> None:
    recipe.command()(plan)


def plan(
    context: typer.Context,
    recipe: RecipeArgument = None,
    parameter: Parameters = None,
    repository: RepositoryOption = None,
    ref: RefOption = None,
    path: PathOption = None,
    update: Annotated[bool, typer.Option("--update", help="Resolve anew, whatever the lock says.")] = False,
    json: Json = False,
) -> None:
    """Say what a build would install and from where, and whether a release answers already.

    A worker resolves the recipe for it; nothing is built.
    """
    from builder.cli.following import follow_quietly
    from builder.cli.output import print_json

    given = parameters_of(parameter)
    wanted = wanted_recipe(recipe, repository, ref, path, given)
    lock = None if update else lock_beside(recipe)
    with file_pointed_out(recipe), invocation_of(context).client() as client:
        use = "update" if update else "prefer"
        asked = client.submit(wanted, parameters=given, lock=lock, lock_use=use, dry_run=True)
        ended = follow_quietly(client, asked)
    found = _plan_of(ended)
    if json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        _print(ended.recipe, found)


def _plan_of(ended: Build) -> Plan:
    if ended.plan is not None:
        return ended.plan
    if ended.problem is None:
        raise NotPlanned(f"build {ended.id} is {ended.state}", hint=f"see `goldsmith logs {ended.id}`")
    raise NotPlanned(ended.problem.detail, errors=ended.problem.errors, hint=ended.problem.hint)


def _print(recipe: str, plan: Plan) -> None:
    from builder.cli.output import print_table, say, size_text
    from builder.counted import counted

    if plan.builds_first:
        say(f"{recipe} would wait for {', '.join(plan.builds_first)}, built first; what it adds is known after that")
        return
    if plan.unchanged is not None:
        say(f"nothing would be built: build {plan.unchanged.build_id} released the same as {plan.unchanged.digest}")
    bootstrapped = "bootstrapped before" if plan.base_cached else "to be bootstrapped"
    base = plan.base if plan.base is None or "@" in plan.base or ":" in plan.base else f"{plan.base}, {bootstrapped}"
    say(f"base     {base}")
    say(f"lock     {'as given' if plan.lock_given else 'resolved now'}")
    say(f"network  {'no step has one' if plan.hermetic else 'a step has one: what it fetches is not planned'}")
    added = [package for package in plan.packages if not package.bootstrap]
    fetched = [package for package in plan.packages if package.source != "cache"]
    say(f"packages {len(plan.packages)}, of which {len(plan.packages) - len(added)} are the base's")
    say(f"fetch    {counted(len(fetched), 'package')}, {size_text(plan.fetch_bytes)}")
    say(f"files    {', '.join(plan.files) or 'none'}")
    if added:
        print_table(
            ("PACKAGE", "VERSION", "ARCHITECTURE", "FROM"),
            [(package.name, package.version, package.architecture, package.source) for package in added],
        )
