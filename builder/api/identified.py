"""Who a caller is, known by an API key or by a token, and what follows from that for its requests."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from builder.errors import Rejected
from builder.identity.issuers import matches
from builder.identity.tokens import Bearer
from builder.pipeline.submission import HOUSE_ORIGINS, Asked
from builder.recipes.model import Recipe
from builder.store import builds, releases
from builder.store.callers import ApiKey
from builder.store.schema import Build
from builder.store.scopes import Scope
from builder.store.states import Purpose


class RecipeNotAllowed(Rejected):
    slug = "recipe-not-allowed"
    title = "The caller may not build this recipe"
    status = 403


@dataclass(frozen=True)
class Identified:
    """`id` is the API key's; `recipes` are patterns of names, None is any; `identity` goes into the provenance;
    `team` is whose limit of running builds its builds count for, none is its own."""

    name: str
    scopes: tuple[str, ...]
    recipes: tuple[str, ...] | None
    expires_at: float | None
    identity: dict[str, Any]
    id: str | None = None
    team: str | None = None

    @classmethod
    def by_key(cls, key: ApiKey) -> Identified:
        return cls(
            name=key.name, scopes=tuple(key.scopes), recipes=tuple(key.recipes) if key.recipes is not None else None,
            expires_at=key.expires_at, identity={"apiKey": key.id, "name": key.name}, id=key.id,
            team=key.team,
        )  # fmt: skip

    @classmethod
    def by_token(cls, bearer: Bearer) -> Identified:
        return cls(
            name=bearer.name, scopes=bearer.granted.scopes, recipes=bearer.granted.recipes,
            expires_at=bearer.expires_at,
            identity={"issuer": bearer.issuer, "subject": bearer.subject, "claims": dict(bearer.claims)},
            team=bearer.granted.team,
        )  # fmt: skip

    def allows(self, scopes: Collection[Scope]) -> bool:
        return not {Scope.ADMIN, *scopes}.isdisjoint(self.scopes)

    def may_build(self, name: str) -> bool:
        return self.recipes is None or any(matches(pattern, name) for pattern in self.recipes)


def identified(request: Request) -> Identified:
    found: Identified = request.state.key
    return found


def refuse_recipe(request: Request, name: str) -> None:
    """Raises RecipeNotAllowed."""
    one = identified(request)
    if not one.may_build(name):
        raise RecipeNotAllowed(
            f"{one.name} may build {' and '.join(one.recipes or ())}, and {name} is none of them",
            hint="ask an operator: `goldsmith key create … --recipe`, or the rules of GOLDSMITH_ISSUERS",
        )


def refuse_sent_recipe(request: Request, recipe: Recipe) -> None:
    """Of a recipe that the caller brings, in the request or in a repository, the name is the caller's to choose, and so
    is where it is published: both must be allowed. Raises RecipeNotAllowed."""
    refuse_recipe(request, recipe.metadata.name)
    refuse_recipe(request, recipe.spec.publish.repository.rpartition("/")[2])


def refuse_asked(request: Request, asked: Asked) -> None:
    """Raises RecipeNotAllowed."""
    if asked.origin in HOUSE_ORIGINS:
        refuse_recipe(request, asked.recipe.metadata.name)
    else:
        refuse_sent_recipe(request, asked.recipe)


def refuse_build(request: Request, build: Build) -> None:
    """Of what a build is of, whoever asked for it. Raises RecipeNotAllowed."""
    refuse_recipe(request, build.recipe_name)
    if build.origin in ("request", "git"):
        # Perhaps one of an earlier version: what is not a recipe any more is no fault here.
        told = json.loads(build.recipe).get("spec", {}).get("publish", {})
        refuse_recipe(request, told.get("repository", build.recipe_name).rpartition("/")[2])


def refuse_image(request: Request, session: Session, digest: str, repository: str | None) -> None:
    """Of what a released image is of. Raises RecipeNotAllowed."""
    known = releases.of_image(session, digest, request.app.state.settings.registry, repository)
    if known is None:
        # One that another installation released has no name here yet: it is rebuilt under its own.
        refuse_all_recipes(request)
    else:
        refuse_build(request, builds.get(session, known.build_id))


def refuse_existing(request: Request, session: Session, build: Build) -> None:
    """Of a build that is there already: a rebuild or comparison is of what its image is of. Raises RecipeNotAllowed."""
    if build.purpose in (Purpose.REBUILD, Purpose.COMPARE) and build.subject is not None:
        refuse_image(request, session, build.subject, build.options.get("repository"))
    else:
        refuse_build(request, build)


def refuse_all_recipes(request: Request) -> None:
    """Of what concerns every release. Raises RecipeNotAllowed for whoever may build some recipes only."""
    one = identified(request)
    if one.recipes is not None:
        raise RecipeNotAllowed(
            f"{one.name} may build {' and '.join(one.recipes)} only, and this concerns every recipe",
            hint="ask an operator",
        )
