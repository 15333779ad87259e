"""Asking again for a build that came to nothing: the same request, of a new requester."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from builder.errors import Rejected
from builder.pipeline.services import Services
from builder.pipeline.submission import HOUSE_ORIGINS, Asked, House, submit
from builder.planning.lock import Lock
from builder.planning.lockfile import read_lock_beside
from builder.recipes.catalogue import Catalogue
from builder.recipes.model import Recipe
from builder.store import builds, outbox
from builder.store.builds import Submission
from builder.store.schema import Build
from builder.store.states import Priority, Purpose, State


class NotRetryable(Rejected):
    slug = "build-not-retryable"
    title = "The build cannot be retried"
    status = 409


class RecipeChanged(Rejected):
    """A recipe of the service is built as it is now, with the lock that it has now."""

    slug = "recipe-changed"
    title = "The service's recipe or its lock has changed since"
    status = 409


def retry(
    services: Services,
    catalogue: Catalogue,
    build_id: str,
    *,
    requester: str,
    team: str | None,
    identity: dict[str, Any],
) -> Build:
    """A new build with what the failed or cancelled one was asked for: recipe, lock and options as they were then.

    Raises BuildUnknown, NotRetryable, RecipeChanged, and what `submit` raises.
    """
    settings = services.settings
    with services.database.write() as session:
        build = builds.get(session, build_id)
        if build.state not in (State.FAILED, State.CANCELLED):
            raise NotRetryable(
                f"build {build_id} is {build.state}; only one that failed or was cancelled is retried",
                hint="follow it to its end, or ask for a new build",
            )
        # To go before others has to be asked for anew.
        priority = Priority.LOW if build.priority == Priority.LOW else Priority.NORMAL
        if build.purpose in (Purpose.REBUILD, Purpose.COMPARE):
            outbox.refuse_full(session, settings.waiting_builds)
            return builds.submit(session, _again(build, requester, team, identity, priority))
        lock = Lock.model_validate_json(build.lock) if build.lock is not None else None
        if build.origin in HOUSE_ORIGINS:
            _refuse_changed(catalogue, build, lock)
        asked = Asked(
            _recipe_of(build),
            build.origin,
            requester,
            lock=lock,
            lock_from_request=bool(build.options.get("lock_from_request")),
            purpose=Purpose(build.purpose),
            update=bool(build.options.get("update")),
            force=bool(build.options.get("force")),
            priority=priority,
            retry_of=build.id,
            identity=identity,
            team=team,
            parameters=build.options.get("parameters", {}),
            source=build.options.get("source"),
        )
        house = House(settings.registry, settings.network_steps, services.policy, settings.waiting_builds)
        return submit(session, catalogue, house, asked)


def _recipe_of(build: Build) -> Recipe:
    """Raises NotRetryable if this version does not know it as a recipe."""
    try:
        return Recipe.model_validate_json(build.recipe)
    except ValidationError as error:
        raise NotRetryable(
            f"the recipe of build {build.id} is not one of this version's", hint="ask for a new build"
        ) from error


def _refuse_changed(catalogue: Catalogue, build: Build, lock: Lock | None) -> None:
    """An old build must not be a way to publish an old recipe under the service's own name."""
    listed = catalogue.get(build.recipe_name, build.options.get("parameters", {}))
    if listed.digest != build.recipe_digest or (lock is not None and lock != read_lock_beside(listed.path)):
        raise RecipeChanged(
            f"the recipe {build.recipe_name!r}, or its lock, is not what build {build.id} was asked for",
            hint=f"`goldsmith build {build.recipe_name}` builds it as it is now",
        )


def _again(build: Build, requester: str, team: str | None, identity: dict[str, Any], priority: Priority) -> Submission:
    if build.staging_repository is not None or build.options.get("subject", {}).get("size") is not None:
        raise NotRetryable(
            f"what build {build.id} was to compare was uploaded, and an upload is not kept", hint="send it again"
        )
    return Submission(
        recipe_name=build.recipe_name,
        recipe_digest=build.recipe_digest,
        recipe=build.recipe,
        origin=build.origin,
        requester=requester,
        team=team,
        purpose=Purpose(build.purpose),
        subject=build.subject,
        options=build.options,
        priority=priority,
        retry_of=build.id,
        identity=identity,
    )
