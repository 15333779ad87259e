"""Taking a build in: the recipe, and first the image it starts from, in one transaction."""

from __future__ import annotations

from sqlalchemy.orm import Session

from builder.errors import Fault
from builder.recipes.catalogue import Catalogue, refuse_sources
from builder.recipes.document import RecipeInvalid
from builder.recipes.model import Recipe
from builder.recipes.reading import canonical_json, recipe_digest
from builder.store import builds
from builder.store.builds import Submission
from builder.store.schema import Build


def submit(session: Session, catalogue: Catalogue, recipe: Recipe, *, origin: str, requester: str) -> Build:
    """A new build. If its base is a recipe without a current release, that one is built first and this one waits.

    Raises RecipeInvalid or RecipeUnknown.
    """
    return _submit(session, catalogue, recipe, origin, requester, ())


def _submit(
    session: Session, catalogue: Catalogue, recipe: Recipe, origin: str, requester: str, path: tuple[str, ...]
) -> Build:
    refuse_sources(recipe)
    path = (*path, recipe.metadata.name)
    waits_for = None
    base = recipe.spec.base.recipe
    if base is not None:
        if base in path:
            circle = " -> ".join((*path, base))
            fault = Fault(message=f"bases form a circle: {circle}", field="spec.base.recipe", hint="break it")
            raise RecipeInvalid(f"recipe: {fault}", errors=[fault])
        waits_for = _base_build(session, catalogue, base, requester, path)
    submission = Submission(
        recipe_name=recipe.metadata.name,
        recipe_digest=recipe_digest(recipe),
        recipe=canonical_json(recipe).decode(),
        origin=origin,
        requester=requester,
    )
    return builds.submit(session, submission, waits_for=waits_for)


def _base_build(session: Session, catalogue: Catalogue, name: str, requester: str, path: tuple[str, ...]) -> str | None:
    """The build to wait for, or None when the base's recipe, as it is now, has been released."""
    listed = catalogue.get(name)
    if builds.newest_release(session, listed.name, listed.digest) is not None:
        return None
    running = builds.running_build_of(session, listed.digest)
    if running is not None:
        return running.id
    return _submit(session, catalogue, listed.recipe, "base", requester, path).id
