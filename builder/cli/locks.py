"""`goldsmith recipe lock`: write down what a recipe resolves to, and see what an update would bring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.invocation import Invocation, Json, invocation_of
from builder.cli.wanted import (
    Parameters,
    PathOption,
    RecipeArgument,
    RefOption,
    RepositoryOption,
    file_pointed_out,
    parameters_of,
    recipe_file,
    wanted_recipe,
)
from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.client.sources import Wanted
    from builder.planning.changes import LockChanges
    from builder.planning.lock import Lock


class NotResolved(Rejected):
    slug = "not-resolved"
    title = "The recipe could not be resolved"


def add_to(recipe: typer.Typer) -> None:
    recipe.command()(lock)


def lock(
    context: typer.Context,
    recipe: RecipeArgument = None,
    parameter: Parameters = None,
    repository: RepositoryOption = None,
    ref: RefOption = None,
    path: PathOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 2 if resolving gives other inputs.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing; say what an update would change.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep every package; renew the digests of the recipe's files alone.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there. [default: beside the recipe's file]"),
    ] = None,
    json: Json = False,
) -> None:
    """Resolve a recipe and write its lock: every package, file and base by digest.

    The lock of web.yaml is web.lock.json beside it. A recipe that the API knows by name has its lock with the API; it
    is printed, for you to put there. So is that of a recipe in a --repository.
    """
    from builder.cli.output import ascii_json, print_json
    from builder.cli.writing import refuse_unwritable, write
    from builder.planning.changes import changes_between
    from builder.planning.lockfile import format_lock, lock_path

    file = recipe_file(recipe) if recipe is not None else None
    if repository is not None and (check or diff):
        raise typer.BadParameter(
            "a lock of a repository is not read here: check it out, and name the file", param_hint="--check/--diff"
        )
    if keep and (check or diff or file is None):
        raise typer.BadParameter("it is for writing the lock of a recipe file", param_hint="--keep")
    if output and (check or diff):
        raise typer.BadParameter("--check and --diff write nothing", param_hint="--output")
    given = parameters_of(parameter)
    wanted = wanted_recipe(recipe, repository, ref, path, given)
    target = output or (lock_path(file) if file and not (check or diff) else None)
    if target is not None:
        refuse_unwritable(target)
    invocation = invocation_of(context)
    with file_pointed_out(recipe):
        before = _before(invocation, recipe, file, needed=check or diff or keep)
        after = _kept(file, before, given) if keep and file and before else _resolved(invocation, wanted, given)
    changes = changes_between(before, after) if before else None
    if check or diff:
        assert changes is not None, "without a lock before there is nothing to check"
        if json:
            print_json(_changes_data(changes))
        else:
            _print_changes(changes)
        if check and changes.any:
            raise typer.Exit(exits.REFUSED)
        return
    if target is None:
        typer.echo(ascii_json(format_lock(after)), nl=False)
        return
    write(target, format_lock(after).encode())
    if json:
        print_json({"file": str(target), "digest": after.digest, **(_changes_data(changes) if changes else {})})
    else:
        _print_written(target, after, changes)


def _before(invocation: Invocation, recipe: str | None, file: Path | None, *, needed: bool) -> Lock | None:
    """The lock as it is now: beside the file, or with the API."""
    from builder.planning.lockfile import LockInvalid, parse_lock, read_lock_beside

    found: Lock | None = None
    if file is not None:
        try:
            found = read_lock_beside(file)
        except LockInvalid:
            # What cannot be read is written anew, but nothing can be compared with it.
            if needed:
                raise
    elif needed and recipe is not None:
        with invocation.client() as client:
            found = parse_lock(client.recipe_lock(recipe), source=f"the lock of {recipe}")
    if found is None and needed:
        raise NotResolved(f"{recipe} has no lock to compare with", hint=f"`goldsmith recipe lock {recipe}` makes one")
    return found


def _resolved(invocation: Invocation, wanted: Wanted, given: dict[str, str]) -> Lock:
    from builder.cli.following import follow_quietly
    from builder.planning.lockfile import parse_lock

    with invocation.client() as client:
        ended = follow_quietly(client, client.submit_lock(wanted, given))
        if not ended.succeeded:
            problem = ended.problem
            if problem is None:
                raise NotResolved(f"build {ended.id} is {ended.state}", hint=f"see `goldsmith logs {ended.id}`")
            raise NotResolved(problem.detail, errors=problem.errors, hint=problem.hint)
        return parse_lock(client.lock(ended.id), source="the API's lock")


def _kept(recipe: Path, before: Lock, given: dict[str, str]) -> Lock:
    """The same packages with the digests of the recipe's files as they are now. Raises LockStale for all else."""
    from builder.planning.agreement import locked_files, refuse_stale
    from builder.recipes.catalogue import fill_recipe_file

    read = fill_recipe_file(recipe, given).recipe
    renewed = before.model_copy(update={"files": locked_files(read)})
    refuse_stale(read, renewed)
    return renewed


def _print_written(target: Path, lock: Lock, changes: LockChanges | None) -> None:
    from builder.cli.output import say
    from builder.counted import counted

    if changes is not None and changes.any:
        _print_changes(changes)
    bootstrapped = f"{lock.base.suite}, bootstrapped from {counted(len(lock.base.packages), 'package')}"
    base = lock.base.image_digest or bootstrapped
    say(f"{target}: {counted(len(lock.packages), 'package')} on {base}, {counted(len(lock.files), 'file')}")


def _print_changes(changes: LockChanges) -> None:
    from builder.cli.output import say

    if not changes.any:
        say("nothing would change: resolving gives what the lock has")
    if changes.requested:
        say("the recipe asks for something else than when it was locked")
    if changes.base:
        say(f"base   {changes.base[0]} -> {changes.base[1]}")
    for package in changes.packages:
        say(str(package))
    for path in changes.files:
        say(f"file   {path}")


def _changes_data(changes: LockChanges) -> dict[str, object]:
    return {
        "changed": changes.any,
        "requested": changes.requested,
        "base": list(changes.base) if changes.base else None,
        "packages": [
            {"name": one.name, "architecture": one.architecture, "before": one.before, "after": one.after}
            for one in changes.packages
        ],
        "files": list(changes.files),
    }
