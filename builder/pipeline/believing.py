"""Whether a lock that came with a request may be believed: only as far as signed indexes of an archive say the same.

Packages bring scripts that run while a base is made, and whoever asks for builds can bring bytes under any digest. So
what a lock calls a package of a maker must be one: known from an index that was resolved here before, or in today's.
"""

from __future__ import annotations

from builder.errors import Fault, Rejected
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.planning.apt import AptArchive
from builder.planning.lock import Lock, LockedPackage
from builder.store import packages
from builder.store.packages import Stated

_TOLD = 20


class LockNotBelieved(Rejected):
    """Somebody wrote the lock, or another installation made it from indexes that are no longer there."""

    slug = "lock-not-believed"
    title = "The lock names packages that no archive is known to have signed for"
    status = 422


def stated(lock: Lock) -> list[Stated]:
    """What a lock says of its packages."""
    return [_stated(one) for one in lock.all_packages]


def remember(services: Services, lock: Lock) -> None:
    """Note what was just resolved from signed indexes."""
    with services.database.write() as session:
        packages.remember(session, stated(lock))


def refuse_unbelieved(services: Services, task: Task, lock: Lock) -> None:
    """Raises LockNotBelieved with a fault for each package, or what refreshing the indexes raises."""
    with services.database.read() as session:
        missing = packages.unknown(session, stated(lock))
    if not missing:
        return
    debian = lock.requested.base.debian
    archive = AptArchive(
        services.archive_directory,
        mirrors=services.mirrors,
        suite=lock.base.suite,
        components=debian.components if debian else ["main"],
        architecture=lock.base.architecture,
        debs=services.debs,
        index_seconds=services.settings.index_minutes * 60,
        should_stop=task.watch.should_stop,
    )
    archive.refresh()
    wanted = {one.sha256: one for one in missing}
    found = {_stated(one) for one in archive.stated(wanted.keys())}
    with services.database.write() as session:
        packages.remember(session, found & set(missing))
    left = [one for one in missing if one not in found]
    if left:
        faults = [
            Fault(
                message=f"{one.name} {one.version} ({one.architecture}) with sha256 {one.sha256[:12]}… is in no index"
            )
            for one in left[:_TOLD]
        ]
        raise LockNotBelieved(
            f"the lock of {task.recipe.metadata.name}: " + "; ".join(str(fault) for fault in faults[:3]),
            errors=faults,
            hint="`goldsmith recipe lock` makes one here; an operator can put recipe and lock among the service's own",
        )


def _stated(package: LockedPackage) -> Stated:
    return Stated(package.sha256, package.name, package.version, package.architecture, package.made_by)
