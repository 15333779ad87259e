"""The plan stage, of a dry run: what a build would install, and from where.

Nothing is built. Without a lock, what is new is fetched into the cache: an image has the time of its newest package,
and only the package itself says it. So the build that follows finds it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from builder.counted import counted
from builder.errors import Unavailable
from builder.image.digests import digest_of
from builder.pipeline.evidence import Plan, PlannedPackage, Unchanged, kept
from builder.pipeline.preparing import bootstrap_key
from builder.pipeline.resolving import locked_or_resolved
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.staging import caches_within_limits, remove_leftovers, spool_of
from builder.pipeline.submission import refuse_forbidden_network
from builder.pipeline.unchanged import released_before
from builder.planning.keys import build_key
from builder.planning.lock import Lock, LockedPackage
from builder.store.schema import Release


@dataclass
class Sources:
    """Where packages come from beside the cache, in the order in which a build asks. What was resolved now is the
    archive's; once the registry has not answered, it is not asked again, and of what may be there nothing is known."""

    services: Services
    repository: str
    locked: bool
    away: bool = False

    def of(self, package: LockedPackage) -> str:
        if not self.locked:
            return "archive"
        if self.away:
            return "unknown"
        services = self.services
        try:
            for place in (services.staging(self.repository), services.released(self.repository)):
                if services.impatient_registry.blobs.size(place, f"sha256:{package.sha256}") is not None:
                    return "registry"
        except Unavailable:
            self.away = True
            return "unknown"
        return "archive" if package.path is not None else "unknown"


class PlanStage:
    """`work` is the stage; `clean_up` takes back what a failed one left outside the database."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def work(self, task: Task) -> dict[str, Any]:
        services = self._services
        remove_leftovers(services, task.build.id)
        refuse_forbidden_network(services, task.recipe)
        first = tuple(task.build.options.get("builds_first", ()))
        if first:
            # What they will be is not known, and so neither is what is to be added.
            return {"plan": kept(Plan(builds_first=first, hermetic=task.recipe.spec.hermetic))}
        cached = services.debs.all()
        with caches_within_limits(services), spool_of(services, task.build.id) as spool:
            lock = locked_or_resolved(services, task, spool).lock
        with task.journal.step("plan") as step:
            plan = self._plan(task, lock, cached)
            new = sum(package.source != "cache" for package in plan.packages)
            step.summary = (
                f"{counted(len(plan.packages), 'package')}, {new} of them to fetch ({plan.fetch_bytes} bytes)"
            )
        return {"plan": kept(plan), "lock": kept(lock)}

    def clean_up(self, build_id: str) -> None:
        self._services.engine.remove_leftovers(build_id)

    def _plan(self, task: Task, lock: Lock, cached: frozenset[str]) -> Plan:
        sources = Sources(self._services, task.recipe.spec.publish.repository, locked=task.lock is not None)
        packages = tuple(self._planned(task, package, lock, cached, sources) for package in lock.all_packages)
        before = self._before(task, lock)
        return Plan(
            hermetic=task.recipe.spec.hermetic,
            base=lock.base.image or lock.base.suite,
            base_cached=lock.base.image is None and self._services.bases.cached(bootstrap_key(lock)) is not None,
            packages=packages,
            fetch_bytes=sum(package.size for package in packages if package.source != "cache"),
            files=tuple(file.path for file in lock.files),
            lock_digest=digest_of(lock.canonical()),
            lock_given=task.lock is not None,
            unchanged=Unchanged(build_id=before.build_id, digest=before.digest) if before is not None else None,
        )

    def _planned(
        self, task: Task, package: LockedPackage, lock: Lock, cached: frozenset[str], sources: Sources
    ) -> PlannedPackage:
        task.watch.check()
        return PlannedPackage(
            name=package.name,
            version=package.version,
            architecture=package.architecture,
            sha256=package.sha256,
            size=package.size,
            bootstrap=package in lock.base.packages,
            source="cache" if package.sha256 in cached else sources.of(package),
        )

    def _before(self, task: Task, lock: Lock) -> Release | None:
        if not task.recipe.spec.hermetic or task.build.options.get("force"):
            return None
        return released_before(self._services, build_key(task.build.recipe_digest, lock), task.recipe)
