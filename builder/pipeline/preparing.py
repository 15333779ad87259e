"""From a recipe to a lock: what the image starts from and what is added to it, each input by its digest."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from builder import __version__
from builder.engine.assembly import content_of
from builder.engine.container import Container
from builder.engine.debian import BOOTSTRAP, bootstrap
from builder.errors import Rejected
from builder.pipeline.base import Base, image_base
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.planning.apt import AptArchive, Resolved
from builder.planning.lock import Lock, LockedArchive, LockedBase, LockedFile
from builder.recipes.model import Base as BaseSpec
from builder.recipes.model import DebianBase


class SuiteUnclear(Rejected):
    slug = "suite-unclear"
    title = "The base does not say which Debian it is"


@dataclass(frozen=True)
class Prepared:
    """A container image to build in, the base it stands for (None for a bootstrapped one), and the lock."""

    engine_image: str
    base: Base | None
    lock: Lock


def prepare(services: Services, task: Task, spool: Path, deadline: float) -> Prepared:
    """Resolve a recipe and have its base in the engine. Raises what planning, bootstrap and registry raise."""
    base = task.recipe.spec.base
    if base.debian is not None:
        return _bootstrapped(services, task, base.debian, spool, deadline)
    return _on_image(services, task, base, spool)


def _bootstrapped(services: Services, task: Task, debian: DebianBase, spool: Path, deadline: float) -> Prepared:
    architecture = debian.architecture or services.engine.architecture()
    with task.journal.step("resolve") as step:
        archive = _archive(services, task, debian.suite, debian.components, architecture)
        archives = archive.refresh()
        core = archive.resolve(BOOTSTRAP)
        whole = archive.resolve([*BOOTSTRAP, *task.recipe.spec.packages])
        in_core = {package.sha256 for package in core.packages}
        added = tuple(package for package in whole.packages if package.sha256 not in in_core)
        step.summary = f"{len(whole.packages)} packages of {debian.suite}, each by digest"
    with task.journal.step("base") as step:
        key = _bootstrap_key(core, debian.suite, architecture)
        image = services.engine.cached(key)
        made = "bootstrapped before"
        if image is None:
            tar = spool / "base.tar"
            bootstrap(
                tar,
                suite=debian.suite,
                architecture=architecture,
                packages=core.packages,
                debs=services.debs,
                epoch=core.newest,
                timeout=deadline - time.monotonic(),
                on_line=step.log,
                should_stop=task.watch.should_stop,
            )
            image = services.engine.import_root(tar, key)
            tar.unlink()
            made = "bootstrapped"
        step.summary = f"{debian.suite}, {made} from {len(core.packages)} packages"
    base = LockedBase(suite=debian.suite, architecture=architecture, packages=core.packages)
    return Prepared(image, None, _lock(task, base, Resolved(added, whole.newest), archives, 0))


def _on_image(services: Services, task: Task, spec: BaseSpec, spool: Path) -> Prepared:
    packages = task.recipe.spec.packages
    with task.journal.step("base") as step:
        base = image_base(services, spec, task.build.base_digest, spool)
        engine_image = services.engine.pull(base.reference)
        step.summary = base.reference
    with task.journal.step("resolve") as step:
        resolved, suite = Resolved((), 0), ""
        archives: tuple[LockedArchive, ...] = ()
        if packages:
            with services.engine.build_container(engine_image, task.build.id, {}) as container:
                status = container.read("/var/lib/dpkg/status") or b""
                suite = _suite(container)
            archive = _archive(services, task, suite, ["main"], base.config.architecture)
            archives = archive.refresh()
            resolved = archive.resolve(packages, status=status)
        step.summary = f"{len(resolved.packages)} packages to add, each by digest"
    locked = LockedBase(suite=suite, architecture=base.config.architecture, image=base.reference, recipe=spec.recipe)
    return Prepared(engine_image, base, _lock(task, locked, resolved, archives, base.epoch))


def _archive(services: Services, task: Task, suite: str, components: list[str], architecture: str) -> AptArchive:
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


def _lock(task: Task, base: LockedBase, added: Resolved, archives: tuple[LockedArchive, ...], base_epoch: int) -> Lock:
    files = tuple(
        LockedFile(path=file.path, sha256=hashlib.sha256(content_of(file)).hexdigest())
        for file in task.recipe.spec.files
    )
    return Lock(
        recipe_digest=task.build.recipe_digest,
        base=base,
        packages=added.packages,
        archives=archives,
        files=files,
        epoch=max(base_epoch, added.newest),
        builder=f"goldsmith {__version__}",
    )


def _bootstrap_key(core: Resolved, suite: str, architecture: str) -> str:
    """A digest over all that decides what a bootstrap gives."""
    parts = [suite, architecture, str(core.newest), *(package.sha256 for package in core.packages)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _suite(container: Container) -> str:
    release = container.read("/usr/lib/os-release") or container.read("/etc/os-release") or b""
    for line in release.decode("utf-8", "replace").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip().strip("\"'")
    raise SuiteUnclear("the base's os-release has no VERSION_CODENAME", hint="packages need a Debian base")
