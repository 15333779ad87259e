"""Where the recipe of a request comes from: the service's own, a commit of a repository, or the request itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from builder.planning.lock import Lock
from builder.planning.lockfile import LOCK_BYTES, lock_path, parse_lock, read_lock_beside
from builder.recipes.catalogue import Catalogue, NotBeside
from builder.recipes.git import GitPlace, GitSources, refused
from builder.recipes.model import Recipe
from builder.recipes.parameters import Value
from builder.recipes.reading import fill_from_data, fill_recipe


@dataclass(frozen=True)
class Sourced:
    """A recipe, its parameters filled in. `lock` is the one beside it; `source` says which commit it is of."""

    recipe: Recipe
    origin: str
    lock: Lock | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    source: Mapping[str, str] | None = None


def of_the_service(catalogue: Catalogue, name: str, given: Mapping[str, Any], *, lock: bool) -> Sourced:
    """Raises RecipeUnknown, RecipeInvalid, ParameterInvalid or LockInvalid."""
    listed = catalogue.get(name, given)
    beside = read_lock_beside(listed.path) if lock else None
    return Sourced(listed.recipe, "catalogue", beside, listed.parameters)


def of_the_request(data: dict[str, Any], given: Mapping[str, Any]) -> Sourced:
    """Raises RecipeInvalid or ParameterInvalid."""
    filled = fill_from_data(data, given)
    return Sourced(filled.recipe, "request", None, filled.values)


def of_a_commit(git: GitSources, place: GitPlace, given: Mapping[str, Any], *, lock: bool) -> Sourced:
    """The recipe, the files it names and its lock are all of one commit.

    Raises GitSourceRefused, GitUnavailable, RecipeInvalid, ParameterInvalid or LockInvalid.
    """
    with git.commit(place) as commit:
        filled = fill_recipe(commit.recipe_text(place.path), given, source=place.path)
        recipe = commit.embed(filled.recipe, place.path)
        beside = None
        if lock:
            name = str(lock_path(PurePosixPath(place.path)))
            try:
                text = commit.read(name, LOCK_BYTES)
            except NotBeside as error:
                raise refused("path", str(error), error.hint) from error
            beside = parse_lock(text, source=name) if text is not None else None
    source = {"repository": place.repository, "ref": place.ref, "commit": commit.id, "path": place.path}
    return Sourced(recipe, "git", beside, filled.values, source)
