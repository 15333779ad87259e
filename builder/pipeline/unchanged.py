"""Was exactly this released before? Then a request is answered by that release, and nothing is built."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from builder.pipeline.evidence import BuildEvidence
from builder.pipeline.services import Services
from builder.pipeline.standing import stands
from builder.planning.keys import build_key
from builder.planning.lock import Lock
from builder.planning.lockfile import read_lock_beside
from builder.recipes.catalogue import Catalogue
from builder.recipes.model import Recipe
from builder.recipes.reading import recipe_digest
from builder.registry.client import RegistryClient
from builder.store import builds, releases
from builder.store.schema import Build, Release


def released_before(services: Services, build_key: str, recipe: Recipe) -> Release | None:
    """The newest release with a build key that the registry still holds and that today's policy lets pass.

    Raises what the registry client and `stands` raise.
    """
    with services.database.read() as session:
        release = _with_its_tags(session, releases.of_key(session, build_key, services.settings.registry))
    if release is None or not stands(services, release, recipe):
        return None
    return release if still_there(services, services.registry, release) else None


def answering_release(
    session: Session, catalogue: Catalogue, recipe: Recipe, lock: Lock | None, registry: str, index_seconds: float
) -> Release | None:
    """The release that answers a request as it stands, without asking any archive.

    With a lock, one of the same inputs. Without, one that was resolved while the archive's indexes still count as
    current: to resolve again would give the same. What a step fetches from a network is in no lock: then there is none.
    """
    if not recipe.spec.hermetic:
        return None
    digest = recipe_digest(recipe)
    if lock is not None:
        return _with_its_tags(session, releases.of_key(session, build_key(digest, lock), registry))
    release = builds.newest_release(session, digest, registry)
    if release is None:
        return None
    build = session.get_one(Build, release.build_id)
    if time.time() - build.created_at > index_seconds:
        return None
    evidence = BuildEvidence.model_validate(build.evidence["build"])
    if evidence.lock_given:
        return None  # whoever made the lock did so at some other time
    made = evidence.lock
    if build_key(digest, made) != release.build_key:
        return None  # another version of the builder made it
    if made.base.recipe is not None:
        listed = catalogue.get(made.base.recipe)
        own = read_lock_beside(listed.path)
        base = (
            releases.of_key(session, build_key(listed.digest, own), registry)
            if own is not None
            else builds.newest_release(session, listed.digest, registry)
        )
        if base is None or base.digest != made.base.image_digest:
            return None
    return _with_its_tags(session, release)


def _with_its_tags(session: Session, release: Release | None) -> Release | None:
    """A release whose tags a newer one has taken answers nothing: whoever asks wants them back."""
    return None if release is None or releases.newer_tags(session, release) else release


def still_there(services: Services, registry: RegistryClient, release: Release) -> bool:
    """Whether the registry holds a released image. Raises what the registry client raises."""
    reference = services.released(release.repository).at(release.digest)
    return registry.manifests.find(reference) is not None
