"""Taking a build in: the recipe, and first the image it starts from, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from builder.errors import Fault, GoldsmithError, Rejected
from builder.image.canonical_rules import Action, rule_for
from builder.image.entry import Entry, EntryType
from builder.recipes.catalogue import Catalogue, Listed, refuse_sources
from builder.recipes.document import RecipeInvalid
from builder.recipes.model import Recipe
from builder.recipes.reading import canonical_json, recipe_digest
from builder.store import builds
from builder.store.builds import Submission
from builder.store.schema import Build


class RepositoryReserved(Rejected):
    slug = "repository-reserved"
    title = "The repository belongs to a recipe of the service"
    status = 403


def submit(
    session: Session, catalogue: Catalogue, recipe: Recipe, *, origin: str, requester: str, registry: str
) -> Build:
    """A new build. If its base is a recipe without a current release, that one is built first and this one waits.

    Raises RecipeInvalid, RecipeUnknown or RepositoryReserved.
    """
    if origin == "request":
        _refuse_reserved(catalogue, recipe)
    return _Submitting(session, catalogue, requester, registry).submit(recipe, origin, ())


def _refuse_reserved(catalogue: Catalogue, recipe: Recipe) -> None:
    """What the service publishes under its own recipes' names comes from these recipes alone."""
    for name in catalogue.names():
        try:
            listed = catalogue.get(name)
        except GoldsmithError:
            continue
        same = listed.recipe.spec.publish.repository == recipe.spec.publish.repository
        if same and listed.digest != recipe_digest(recipe):
            raise RepositoryReserved(
                f"spec.publish.repository: {recipe.spec.publish.repository} is where the recipe {name!r} is published",
                hint="choose another repository",
            )


def _refuse_vanishing(recipe: Recipe) -> None:
    """A file where the canonical form keeps nothing would silently not be there."""
    faults = []
    for index, file in enumerate(recipe.spec.files):
        path = file.path.lstrip("/").encode()
        rule = rule_for(Entry(path, EntryType.FILE, 0o644, 0, 0))
        if rule is not None and rule.action is not Action.XATTR:
            faults.append(
                Fault(
                    field=f"spec.files[{index}].path",
                    message=f"{file.path} is never part of an image: {rule.reason}",
                    hint="put it elsewhere",
                )
            )
    if faults:
        raise RecipeInvalid("recipe: " + "; ".join(str(fault) for fault in faults[:3]), errors=faults)


@dataclass(frozen=True)
class _Submitting:
    session: Session
    catalogue: Catalogue
    requester: str
    registry: str

    def submit(self, recipe: Recipe, origin: str, path: tuple[str, ...]) -> Build:
        refuse_sources(recipe)
        _refuse_vanishing(recipe)
        path = (*path, recipe.metadata.name)
        base = recipe.spec.base.recipe
        waits_for, base_digest = None, None
        if base is not None:
            if base in path:
                circle = " -> ".join((*path, base))
                fault = Fault(message=f"bases form a circle: {circle}", field="spec.base.recipe", hint="break it")
                raise RecipeInvalid(f"recipe: {fault}", errors=[fault])
            listed = self.catalogue.get(base)
            base_digest = listed.digest
            waits_for = self._base_build(listed, path)
        submission = Submission(
            recipe_name=recipe.metadata.name,
            recipe_digest=recipe_digest(recipe),
            recipe=canonical_json(recipe).decode(),
            origin=origin,
            requester=self.requester,
            base_digest=base_digest,
        )
        return builds.submit(self.session, submission, waits_for=waits_for)

    def _base_build(self, listed: Listed, path: tuple[str, ...]) -> str | None:
        """The build to wait for, or None when the base's recipe, as it is now, has been released here."""
        if builds.newest_release(self.session, listed.digest, self.registry) is not None:
            return None
        running = builds.running_build_of(self.session, listed.digest)
        return running.id if running is not None else self.submit(listed.recipe, "base", path).id
