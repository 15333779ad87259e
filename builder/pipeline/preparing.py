"""From a lock to what a build starts from: every locked package at hand, and the base in the engine."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from builder.counted import counted
from builder.engine.debian import bootstrap
from builder.errors import Rejected
from builder.pipeline.base import Base
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.planning.debs import made_at
from builder.planning.lock import Lock, LockedPackage
from builder.planning.supply import Supply


class ArchitectureMismatch(Rejected):
    slug = "architecture-mismatch"
    title = "The inputs are for another architecture than the engine"


@dataclass(frozen=True)
class Prepared:
    """A container image to build in, the base it stands for (None for a bootstrapped one), and the lock.

    `base_epoch` (UTC seconds) is of the newest content of the base, None where an image does not say.
    """

    engine_image: str
    base: Base | None
    lock: Lock
    base_epoch: int | None


def prepare(
    services: Services,
    task: Task,
    lock: Lock,
    base: Base | None,
    supply: Supply,
    spool: Path,
    deadline: float,
    *,
    fresh: bool = False,
) -> Prepared:
    """`fresh` bootstraps anew, whatever the engine has, under the build's own id.

    Raises ArchitectureMismatch, and what supply, bootstrap and engine raise.
    """
    refuse_other_architecture(services, lock)
    if lock.all_packages:
        with task.journal.step("materials") as step:
            supply.bring(lock.all_packages)
            found = sorted(supply.brought.items())
            step.summary = ", ".join(f"{counted(count, 'package')} from {source}" for source, count in found)
    with task.journal.step("base") as step:
        if base is not None:
            step.summary = base.reference
            return Prepared(services.bases.pull(base.reference), base, lock, base.epoch or None)
        key = task.build.id if fresh else bootstrap_key(lock)
        image, epoch = services.bases.cached(key), _newest(services, lock.base.packages)
        made = "bootstrapped before"
        if image is None:
            tar = spool / "base.tar"
            bootstrap(
                tar,
                suite=lock.base.suite,
                architecture=lock.base.architecture,
                packages=lock.base.packages,
                debs=services.debs,
                epoch=epoch,
                timeout=deadline - time.monotonic(),
                on_line=step.log,
                should_stop=task.watch.should_stop,
            )
            image = services.bases.import_root(tar, key)
            tar.unlink()
            made = "bootstrapped"
        step.summary = f"{lock.base.suite}, {made} from {len(lock.base.packages)} packages"
    return Prepared(image, None, lock, epoch)


def refuse_other_architecture(services: Services, lock: Lock) -> None:
    """Raises ArchitectureMismatch."""
    own = services.engine.architecture()
    if lock.base.architecture != own:
        raise ArchitectureMismatch(
            f"the lock is for {lock.base.architecture}; this worker's engine is {own}",
            hint="build without it (--update), or on another worker",
        )


def _newest(services: Services, packages: tuple[LockedPackage, ...]) -> int:
    return max(made_at(services.debs.path(package.sha256)) for package in packages)


def bootstrap_key(lock: Lock) -> str:
    """A digest over all that decides what a bootstrap gives; its packages also decide its time."""
    base = lock.base
    parts = [base.suite, base.architecture, *(package.sha256 for package in base.packages)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
