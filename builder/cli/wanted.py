"""Which recipe a command means: one that the API knows, a file, or one of a Git repository; and what fills it in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from builder.client.sources import Wanted

RecipeArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME|FILE.yaml", help="A recipe the API knows, or a recipe file.", show_default=False),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", "-p", metavar="NAME=VALUE", help="What the recipe leaves open; again for another.",
        show_default=False,
    ),
]  # fmt: skip
RepositoryOption = Annotated[
    str | None,
    typer.Option("--repository", metavar="URL", help="A Git repository that has the recipe; --path names its file."),
]
RefOption = Annotated[
    str | None,
    typer.Option("--ref", help="Of the repository: a branch, a tag or a commit's whole id. [default: HEAD]"),
]
PathOption = Annotated[
    str | None, typer.Option("--path", metavar="FILE", help="The recipe's file in the repository.")
]  # fmt: skip


def wanted_recipe(
    recipe: str | None, repository: str | None, ref: str | None, path: str | None, given: Mapping[str, str]
) -> Wanted:
    """A name as it is, a file as the whole recipe with its files embedded, or a place in a repository."""
    if repository is not None:
        from builder.client.sources import GitRecipe

        if recipe is not None or path is None:
            raise typer.BadParameter("it goes with --path, and without a recipe", param_hint="--repository")
        return GitRecipe(repository, path, ref or "HEAD")
    if ref is not None or path is not None:
        raise typer.BadParameter("they are of a --repository, which is not named", param_hint="--ref/--path")
    if recipe is None:
        raise typer.BadParameter("name a recipe, a recipe file, or a --repository and a --path in it")
    file = recipe_file(recipe)
    if file is None:
        return recipe
    from builder.recipes.catalogue import written_recipe_file

    return written_recipe_file(file, given)


def recipe_file(recipe: str) -> Path | None:
    """The file, unless it is a name: names have no dots and no slashes."""
    if recipe.endswith(".lock.json"):
        raise typer.BadParameter(f"{recipe} is a lock: name the recipe that it belongs to")
    return Path(recipe) if "." in recipe or "/" in recipe else None


def parameters_of(given: list[str] | None) -> dict[str, str]:
    """NAME=VALUE, each name once."""
    found: dict[str, str] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE", param_hint="--parameter")
        if name in found:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--parameter")
        found[name] = value
    return found


def lock_beside(recipe: str | None) -> dict[str, Any] | None:
    """The lock of a recipe's file. Of a name, and of a repository, the service has it."""
    from builder.planning.lockfile import lock_data, read_lock_beside

    file = recipe_file(recipe) if recipe is not None else None
    lock = read_lock_beside(file) if file is not None else None
    return lock_data(lock) if lock else None


@contextmanager
def file_pointed_out(recipe: str | None) -> Iterator[None]:
    """Whoever names a recipe that the service does not know may have meant the file in this directory."""
    from builder.client.errors import ApiProblem

    try:
        yield
    except ApiProblem as error:
        file = f"{recipe}.yaml"
        if error.told.slug != "recipe-unknown" or recipe is None or not Path(file).is_file():
            raise
        raise ApiProblem(error.told, hint=f"the file in this directory is {file}") from error
