"""Taking a build in: the recipe, and first the image it starts from, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from builder.errors import Fault, GoldsmithError, Rejected
from builder.image.canonical_rules import Action, rule_for
from builder.image.digests import digest_of
from builder.image.entry import Entry, EntryType
from builder.pipeline.build_secrets import refuse_secrets
from builder.pipeline.services import Services
from builder.planning.agreement import refuse_stale
from builder.planning.keys import build_key
from builder.planning.lock import Lock
from builder.planning.lockfile import read_lock_beside
from builder.policy.effective import refuse_looser
from builder.policy.organisation import DEFAULT, OrganisationPolicy
from builder.recipes.catalogue import Catalogue, Listed, refuse_sources
from builder.recipes.document import MAX_WHOLE_BYTES, RecipeInvalid
from builder.recipes.model import Recipe
from builder.recipes.parameters import Value
from builder.recipes.reading import canonical_json, recipe_digest
from builder.store import builds, outbox, releases
from builder.store.builds import Submission
from builder.store.schema import Build
from builder.store.states import Priority, Purpose

# Recipes of the service itself. All others are their requester's word: sent with the request, or of a repository.
HOUSE_ORIGINS = ("catalogue", "base")


class RepositoryReserved(Rejected):
    slug = "repository-reserved"
    title = "The repository belongs to a recipe of the service"
    status = 403


class NetworkNotAllowed(Rejected):
    slug = "network-not-allowed"
    title = "Steps with a network are not allowed here"


@dataclass(frozen=True)
class Asked:
    """What a caller wants. `lock` is to be used exactly, and has to be believed first if it came with the request;
    `update` leaves the locks of bases aside too; `force` builds what was released before once more; `retry_of` is a
    build that came to nothing. `parameters` are what the recipe was filled in with, `source` is the commit it is of."""

    recipe: Recipe
    origin: str
    requester: str
    lock: Lock | None = None
    lock_from_request: bool = False
    purpose: Purpose = Purpose.RELEASE
    update: bool = False
    force: bool = False
    priority: Priority = Priority.NORMAL
    retry_of: str | None = None
    identity: dict[str, Any] | None = None
    team: str | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    source: Mapping[str, str] | None = None


@dataclass(frozen=True)
class House:
    """What holds for all builds of an installation: where it releases to, whether steps may ask for a network, the
    policy that no recipe may loosen, and how many may wait to be begun (0: any number)."""

    registry: str
    network_steps: bool
    policy: OrganisationPolicy = DEFAULT
    waiting_builds: int = 0


def submit(session: Session, catalogue: Catalogue, house: House, asked: Asked) -> Build:
    """A new build. If its base is a recipe without a current release, that one is built first and this one waits.

    Raises RecipeInvalid, RecipeUnknown, LockStale, RepositoryReserved, NetworkNotAllowed, SecretsNotAllowed,
        PolicyLoosened or QueueFull.
    """
    outbox.refuse_full(session, house.waiting_builds)
    if asked.origin not in HOUSE_ORIGINS and asked.purpose in (Purpose.RELEASE, Purpose.PLAN):
        _refuse_reserved(catalogue, asked)
    return _Submitting(session, catalogue, house).submit(asked, ())


def refuse_forbidden_network(services: Services, recipe: Recipe) -> None:
    """For a worker, which may forbid what the API lets through: its host is what the steps would reach."""
    if not services.settings.network_steps:
        refuse_network_steps(recipe)


def refuse_network_steps(recipe: Recipe) -> None:
    """Raises NetworkNotAllowed with a fault for each step that asks for a network."""
    faults = [
        Fault(field=f"spec.run[{index}].network", message="this installation gives steps no network")
        for index in recipe.spec.network_steps
    ]
    if faults:
        raise NetworkNotAllowed(
            f"recipe {recipe.metadata.name}: " + "; ".join(str(fault) for fault in faults[:3]),
            errors=faults,
            hint="bring what the step fetches as packages or files, or ask the operator: GOLDSMITH_NETWORK_STEPS",
        )


def _refuse_reserved(catalogue: Catalogue, asked: Asked) -> None:
    """What the service publishes under its own recipes' names comes from these recipes, and locks, alone."""
    recipe = asked.recipe
    for name in catalogue.names():
        try:
            listed = catalogue.get(name)
        except GoldsmithError:
            continue
        if listed.recipe.spec.publish.repository != recipe.spec.publish.repository:
            continue
        if listed.digest != recipe_digest(recipe):
            raise RepositoryReserved(
                f"spec.publish.repository: {recipe.spec.publish.repository} is where the recipe {name!r} is published",
                hint="choose another repository",
            )
        if asked.lock is not None and asked.lock != read_lock_beside(listed.path):
            raise RepositoryReserved(
                f"the recipe {name!r} is built here with its own lock, or with none, and the request brings another",
                hint=f"`goldsmith build {name}` takes its own, `--update` none",
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
    house: House

    def submit(self, asked: Asked, path: tuple[str, ...]) -> Build:
        recipe, lock = asked.recipe, asked.lock
        refuse_sources(recipe)
        text = canonical_json(recipe)
        if len(text) > MAX_WHOLE_BYTES:
            fault = Fault(
                message=f"the whole recipe has {len(text)} bytes; {MAX_WHOLE_BYTES} are allowed",
                hint="put its files into a package",
            )
            raise RecipeInvalid(f"recipe: {fault}", errors=[fault])
        _refuse_vanishing(recipe)
        if not self.house.network_steps:
            refuse_network_steps(recipe)
        refuse_secrets(recipe, asked.origin)
        refuse_looser(self.house.policy, recipe.metadata.name, recipe.spec.policy)
        if lock is not None:
            refuse_stale(recipe, lock, filled_in=bool(asked.parameters))
        path = (*path, recipe.metadata.name)
        base = recipe.spec.base.recipe
        waits_for, base_digest = None, None
        options: dict[str, Any] = {"force": True} if asked.force else {}
        if asked.update:
            options["update"] = True
        if asked.lock_from_request:
            options["lock_from_request"] = True
        if asked.parameters:
            options["parameters"] = dict(asked.parameters)
        if asked.source is not None:
            options["source"] = dict(asked.source)
        if base is not None:
            if base in path:
                circle = " -> ".join((*path, base))
                fault = Fault(message=f"bases form a circle: {circle}", field="spec.base.recipe", hint="break it")
                raise RecipeInvalid(f"recipe: {fault}", errors=[fault])
            listed = self.catalogue.get(base)
            base_digest = listed.digest
            options["base_repository"] = listed.recipe.spec.publish.repository
            own = None if asked.update else read_lock_beside(listed.path)
            if own is not None:
                options["base_key"] = build_key(listed.digest, own)
            if asked.purpose is Purpose.PLAN:
                options["builds_first"] = self._unreleased(listed, own, asked, path)
            else:
                waits_for = self._base_build(listed, own, asked, path)
        submission = Submission(
            recipe_name=recipe.metadata.name,
            recipe_digest=digest_of(text),
            recipe=text.decode(),
            origin=asked.origin,
            identity=asked.identity,
            requester=asked.requester,
            team=asked.team,
            base_digest=base_digest,
            purpose=asked.purpose,
            lock=lock.canonical().decode() if lock else None,
            options=options,
            priority=asked.priority,
            retry_of=asked.retry_of,
        )
        return builds.submit(self.session, submission, waits_for=waits_for)

    def _base_build(self, listed: Listed, own: Lock | None, asked: Asked, path: tuple[str, ...]) -> str | None:
        """The build to wait for, or None when the base has been released here. `own` is the base's lock."""
        if self._base_released(listed, asked.lock, own):
            return None
        running = builds.running_build_of(self.session, listed.digest, own.canonical().decode() if own else None)
        if running is not None:
            return running.id
        base = Asked(
            listed.recipe, "base", asked.requester, lock=own, update=asked.update, priority=asked.priority,
            team=asked.team,
        )  # fmt: skip
        return self.submit(base, path).id

    def _unreleased(self, listed: Listed, own: Lock | None, asked: Asked, path: tuple[str, ...]) -> list[str]:
        """The recipes that a build would have to wait for, the deepest first."""
        found: list[str] = []
        lock = asked.lock
        while not self._base_released(listed, lock, own):
            found.insert(0, listed.name)
            path = (*path, listed.name)
            name = listed.recipe.spec.base.recipe
            if name is None or name in path:  # a circle is refused when it is built
                break
            lock, listed = own, self.catalogue.get(name)
            own = None if asked.update else read_lock_beside(listed.path)
        return found

    def _base_released(self, listed: Listed, lock: Lock | None, own: Lock | None) -> bool:
        """As the lock names it; without one, as the base's recipe and its `own` lock are now."""
        registry = self.house.registry
        if lock is not None and lock.base.image_digest is not None:
            where = listed.recipe.spec.publish.repository
            return releases.of_image(self.session, lock.base.image_digest, registry, where) is not None
        if own is not None:
            return releases.of_key(self.session, build_key(listed.digest, own), registry) is not None
        return builds.newest_release(self.session, listed.digest, registry) is not None
