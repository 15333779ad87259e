"""The commands about recipes: what the API offers, and help for writing them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli import exits
from builder.cli.invocation import Json, invocation_of
from builder.cli.wanted import Parameters, parameters_of

app = typer.Typer(help="Write and check recipes, and lock what they resolve to.", no_args_is_help=True)


def add_to(root: typer.Typer) -> None:
    root.command("recipes")(list_recipes)


def list_recipes(context: typer.Context, json: Json = False) -> None:
    """List the recipes that can be built by name."""
    from builder.cli.output import complain, print_json, print_table

    with invocation_of(context).client() as client:
        page = client.recipes()
    if json:
        print_json(page.model_dump(mode="json", by_alias=True))
        return
    print_table(
        ("NAME", "VERSION", "BASE", "PUBLISHED AS", "DESCRIPTION"),
        [
            (one.name, one.version or "", one.base, f"{one.repository}:{','.join(one.tags)}", one.description)
            for one in page.recipes
        ],
    )
    for name, why in page.invalid.items():
        complain(f"{name} cannot be used: {why}")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recipe files.", show_default=False)],
    parameter: Parameters = None,
    json: Json = False,
) -> None:
    """Check recipe files.

    Every fault is told with its line, its column and the way out. A recipe that leaves something open is checked with
    its own defaults, or with what --parameter gives.
    """
    from builder.cli.output import complain, print_json, say
    from builder.errors import Fault, GoldsmithError
    from builder.recipes.catalogue import fill_recipe_file
    from builder.recipes.reading import recipe_digest

    given = parameters_of(parameter)
    checked = []
    for file in files:
        try:
            recipe = fill_recipe_file(file, given).recipe
        except GoldsmithError as error:
            faults = error.errors or [Fault(message=error.detail, hint=error.hint)]
            checked.append({"file": str(file), "valid": False, "errors": [one.model_dump() for one in faults]})
            for fault in [] if json else faults:
                place = f":{fault.line}:{fault.column}" if fault.line else ""
                told = str(fault.model_copy(update={"line": None, "column": None}))
                complain(f"{file}{place}: {told}")
        else:
            digest = recipe_digest(recipe)
            checked.append({"file": str(file), "valid": True, "name": recipe.metadata.name, "digest": digest})
            if not json:
                say(f"{file}: valid, {recipe.metadata.name} {digest}")
    if json:
        print_json({"files": checked})
    if not all(one["valid"] for one in checked):
        raise typer.Exit(exits.FAILED)


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from builder.cli.output import print_json
    from builder.recipes.schema import recipe_schema

    print_json(recipe_schema())
