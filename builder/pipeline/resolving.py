"""From a recipe to a lock: what the image starts from and what is added to it, each input by its digest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import __version__
from builder.counted import counted
from builder.engine.container import Container
from builder.engine.debian import BOOTSTRAP
from builder.errors import Rejected
from builder.pipeline.base import Base, locked_base, newest_base
from builder.pipeline.believing import refuse_unbelieved, remember
from builder.pipeline.evidence import kept
from builder.pipeline.preparing import ArchitectureMismatch, refuse_other_architecture
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.staging import caches_within_limits, remove_leftovers, spool_of
from builder.planning.agreement import locked_files, refuse_stale, requested
from builder.planning.apt import AptArchive, Resolved
from builder.planning.lock import Lock, LockedArchive, LockedBase
from builder.recipes.model import DebianBase

_SUITE = re.compile("[a-z][a-z0-9-]{1,30}")
_DEBIAN = "packages need a Debian base"


class SuiteUnclear(Rejected):
    slug = "suite-unclear"
    title = "The base does not say which Debian it is"


@dataclass(frozen=True)
class Resolution:
    """A lock, and the base it names unless that is bootstrapped."""

    lock: Lock
    base: Base | None


class ResolveStage:
    """The whole of a build that is asked for its lock alone."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def work(self, task: Task) -> dict[str, Any]:
        remove_leftovers(self._services, task.build.id)
        with caches_within_limits(self._services), spool_of(self._services, task.build.id) as spool:
            return {"lock": kept(resolve(self._services, task, spool).lock)}

    def clean_up(self, build_id: str) -> None:
        self._services.engine.remove_leftovers(build_id)


def resolve(services: Services, task: Task, spool: Path) -> Resolution:
    """Raises what planning, registry and engine raise."""
    debian = task.recipe.spec.base.debian
    found = _on_debian(services, task, debian) if debian is not None else _on_image(services, task, spool)
    remember(services, found.lock)
    return found


def locked_or_resolved(services: Services, task: Task, spool: Path) -> Resolution:
    """The lock that was given, exactly; without one, what resolving gives now.

    Raises LockStale, LockNotBelieved, ArchitectureMismatch, and what planning, registry and engine raise.
    """
    if task.lock is None:
        return resolve(services, task, spool)
    refuse_stale(task.recipe, task.lock)
    refuse_other_architecture(services, task.lock)
    if task.build.options.get("lock_from_request"):
        refuse_unbelieved(services, task, task.lock)
    base = locked_base(services, task.lock, task.build.options.get("base_repository"), spool)
    return Resolution(task.lock, base)


def _on_debian(services: Services, task: Task, debian: DebianBase) -> Resolution:
    architecture = debian.architecture or services.engine.architecture()
    with task.journal.step("resolve") as step:
        archive = archive_of(services, task, debian.suite, debian.components, architecture)
        archives = archive.refresh()
        core = archive.resolve(BOOTSTRAP)
        whole = archive.resolve([*BOOTSTRAP, *task.recipe.spec.packages])
        in_core = {package.sha256 for package in core.packages}
        added = tuple(package for package in whole.packages if package.sha256 not in in_core)
        step.summary = f"{len(whole.packages)} packages of {debian.suite}, each by digest"
    base = LockedBase(suite=debian.suite, architecture=architecture, packages=core.packages)
    return Resolution(_lock(task, base, Resolved(added, whole.newest), archives, 0), None)


def _on_image(services: Services, task: Task, spool: Path) -> Resolution:
    spec = task.recipe.spec
    with task.journal.step("resolve") as step:
        base = newest_base(services, spec.base, task.build.base_digest, task.build.options.get("base_key"), spool)
        own = services.engine.architecture()
        if base.config.architecture != own:
            raise ArchitectureMismatch(
                f"{base.reference} is for {base.config.architecture[:40]!r}; this worker's engine is {own}",
                hint="choose an image for it, or an index that has one",
            )
        resolved, suite = Resolved((), 0), ""
        archives: tuple[LockedArchive, ...] = ()
        if spec.packages:
            status, suite = services.installed.of(base.digest, lambda: _installed(services, task, base))
            archive = archive_of(services, task, suite, ["main"], base.config.architecture)
            archives = archive.refresh()
            resolved = archive.resolve(spec.packages, status=status)
        step.summary = f"{counted(len(resolved.packages), 'package')} to add to {base.reference}, each by digest"
    locked = LockedBase(
        suite=suite,
        architecture=base.config.architecture,
        image=base.origin or base.digest,
        recipe=spec.base.recipe,
    )
    return Resolution(_lock(task, locked, resolved, archives, base.epoch), base)


def archive_of(services: Services, task: Task, suite: str, components: list[str], architecture: str) -> AptArchive:
    """The archive of a suite, as this worker reaches it."""
    return AptArchive(
        services.archive_directory,
        mirrors=services.mirrors,
        suite=suite,
        components=components,
        architecture=architecture,
        debs=services.debs,
        index_seconds=services.settings.index_minutes * 60,
        should_stop=task.watch.should_stop,
    )


def suite_of(services: Services, task: Task, base: Base) -> str:
    """The suite that an image says it is of. Raises SuiteUnclear."""
    return services.installed.of(base.digest, lambda: _installed(services, task, base))[1]


def _lock(task: Task, base: LockedBase, added: Resolved, archives: tuple[LockedArchive, ...], base_epoch: int) -> Lock:
    return Lock(
        builder=f"goldsmith {__version__}",
        epoch=max(base_epoch, added.newest),
        requested=requested(task.recipe),
        archives=archives,
        base=base,
        files=locked_files(task.recipe),
        packages=added.packages,
    )


def _installed(services: Services, task: Task, base: Base) -> tuple[bytes, str]:
    """dpkg's status and the suite of an image."""
    image = services.bases.pull(base.reference)
    with services.engine.build_container(image, task.build.id, {}) as container:
        return container.read("/var/lib/dpkg/status") or b"", _suite(container)


def _suite(container: Container) -> str:
    release = container.read("/usr/lib/os-release") or container.read("/etc/os-release") or b""
    for line in release.decode("utf-8", "replace").split("\n"):
        if line.startswith("VERSION_CODENAME="):
            suite = line.partition("=")[2].strip().strip("\"'")
            # Somebody else's word, which names a directory of ours and stands in a sources.list.
            if _SUITE.fullmatch(suite):
                return suite
            raise SuiteUnclear(f"the base's VERSION_CODENAME, {suite[:60]!r}, is no name of a suite", hint=_DEBIAN)
    raise SuiteUnclear("the base's os-release has no VERSION_CODENAME", hint=_DEBIAN)
