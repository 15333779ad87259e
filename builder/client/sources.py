"""Which recipe is meant: the service's by its name, a whole one, or one of a repository; and what fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GitRecipe:
    """A recipe's file in a Git repository. `ref` is a branch, a tag, or a commit's id; the service resolves it."""

    repository: str
    path: str
    ref: str = "HEAD"


Wanted = str | dict[str, Any] | GitRecipe
Parameters = Mapping[str, str | int | bool]


def named(recipe: Wanted, parameters: Parameters | None) -> dict[str, Any]:
    """The members of a request that say so."""
    given = {"parameters": dict(parameters)} if parameters else {}
    if isinstance(recipe, GitRecipe):
        return {"repository": recipe.repository, "ref": recipe.ref, "path": recipe.path, **given}
    return {"recipe": recipe, **given}
