"""The recipes that can be built by name, and the schema for writing them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from builder.api.access import Caller
from builder.api.paging import next_page
from builder.api.problems import documented
from builder.api.views import View
from builder.errors import GoldsmithError, Rejected
from builder.planning.lockfile import lock_data, read_lock_beside
from builder.recipes.catalogue import Catalogue, Listed, written_recipe_file
from builder.recipes.schema import recipe_schema


class RecipeNotLocked(Rejected):
    slug = "recipe-not-locked"
    title = "The recipe has no lock"
    status = 404


class ParameterView(View):
    type: str = Field(examples=["string"], description="string, integer or boolean")
    description: str
    default: str | int | bool
    pattern: str | None
    allowed: list[str | int | bool]
    minimum: int | None
    maximum: int | None


class RecipeView(View):
    name: str
    description: str
    version: str | None
    digest: str
    base: str
    repository: str
    tags: list[str]
    parameters: dict[str, ParameterView] = Field(description="What a request may fill in.")


class RecipePage(View):
    recipes: list[RecipeView]
    invalid: dict[str, str] = Field(description="Recipes of the catalogue that cannot be used, and why.")
    next: str | None = Field(description="The path of the next page, or null on the last.")


router = APIRouter(prefix="/v1/recipes", tags=["recipes"])


@router.get("", summary="List the recipes by name", responses=documented(401, 422, 503))
def list_recipes(
    request: Request,
    _: Caller,
    after: Annotated[
        # Of a file that is no recipe the name may be any.
        str | None, Query(max_length=255, description="Only names that come after this.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> RecipePage:
    catalogue: Catalogue = request.app.state.catalogue
    recipes: list[RecipeView] = []
    invalid: dict[str, str] = {}
    names = [name for name in catalogue.names() if after is None or name > after]
    for name in names[:limit]:
        try:
            recipes.append(_view(catalogue.get(name)))
        except GoldsmithError as error:
            invalid[name] = str(error)
    following = None
    if len(names) > limit:
        following = next_page(request, after=names[limit - 1])
    return RecipePage(recipes=recipes, invalid=invalid, next=following)


@router.get("/schema", summary="The JSON schema of a recipe, for editors", responses=documented(401))
def get_schema(_: Caller) -> dict[str, Any]:
    return recipe_schema()


@router.get("/{name}", summary="Read a recipe as written, its files embedded", responses=documented(401, 404, 422))
def get_recipe(request: Request, name: str, _: Caller) -> dict[str, Any]:
    listed: Listed = request.app.state.catalogue.get(name)
    return written_recipe_file(listed.path, {})


@router.get("/{name}/lock", summary="Read a recipe's lock", responses=documented(401, 404, 422))
def get_lock(request: Request, name: str, _: Caller) -> dict[str, Any]:
    listed: Listed = request.app.state.catalogue.get(name)
    lock = read_lock_beside(listed.path)
    if lock is None:
        raise RecipeNotLocked(f"the recipe {name!r} has no lock", hint=f"`goldsmith recipe lock {name}` makes one")
    return lock_data(lock)


def _view(listed: Listed) -> RecipeView:
    recipe = listed.recipe
    base = recipe.spec.base
    shown = f"debian {base.debian.suite}" if base.debian else base.recipe or base.image or ""
    return RecipeView(
        name=listed.name,
        description=recipe.metadata.description,
        version=recipe.metadata.version,
        digest=listed.digest,
        base=shown,
        repository=recipe.spec.publish.repository,
        tags=recipe.spec.publish.tags,
        parameters={name: ParameterView.model_validate(one.model_dump()) for name, one in listed.declared.items()},
    )
