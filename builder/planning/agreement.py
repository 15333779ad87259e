"""Does a lock belong to a recipe? It must have resolved what the recipe asks for, and hold the files it brings."""

from __future__ import annotations

import hashlib
from collections import Counter

from builder.errors import Fault, Rejected
from builder.planning.lock import Lock, LockedBase, LockedFile, Requested
from builder.recipes.files import content_of
from builder.recipes.model import Base, Recipe
from builder.registry.reference import parse_reference


class LockStale(Rejected):
    """The recipe was changed after it was locked. A build never resolves in silence what a lock should have said."""

    slug = "lock-stale"
    title = "The lock does not belong to the recipe as it is now"
    status = 409


def requested(recipe: Recipe) -> Requested:
    return Requested(base=recipe.spec.base, packages=tuple(recipe.spec.packages))


def locked_files(recipe: Recipe) -> tuple[LockedFile, ...]:
    """The recipe's files by digest; their sources are embedded."""
    return tuple(
        LockedFile(path=file.path, sha256=hashlib.sha256(content_of(file)).hexdigest()) for file in recipe.spec.files
    )


def refuse_stale(recipe: Recipe, lock: Lock, *, filled_in: bool = False) -> None:
    """Raises LockStale with a fault for each thing that differs. `filled_in` is a recipe that has parameters."""
    faults = [*_base(recipe, lock), *_packages(recipe, lock), *_files(recipe, lock), *_twice(lock)]
    if faults:
        raise LockStale(
            f"the lock of {recipe.metadata.name}: " + "; ".join(str(fault) for fault in faults[:3]),
            errors=faults,
            hint="`goldsmith recipe lock` renews it; `goldsmith recipe lock --keep` renews files alone; "
            "`goldsmith build --update` builds without it"
            + ("; a lock is for one set of the parameters' values" if filled_in else ""),
        )


def _base(recipe: Recipe, lock: Lock) -> list[Fault]:
    if recipe.spec.base != lock.requested.base:
        return [Fault(field="spec.base", message="the lock was made for another base")]
    if not _is_such_a_base(recipe.spec.base, lock.base):
        return [Fault(field="spec.base", message="the lock starts from something else than the base it was made for")]
    return []


def _is_such_a_base(asked: Base, locked: LockedBase) -> bool:
    """Anybody can write a lock: what it starts from must be of the kind that the recipe names, and of its place."""
    if asked.debian is not None:
        wanted = (asked.debian.suite, asked.debian.architecture or locked.architecture, None, None)
        named = (locked.suite, locked.architecture, locked.image, locked.recipe)
        return wanted == named and bool(locked.packages)
    if locked.image is None or locked.packages or locked.recipe != asked.recipe:
        return False
    # The digest may be another than the recipe's: of one image of the index that it names.
    place = str(parse_reference(asked.image).repository) if asked.image is not None else ""
    return locked.image.rpartition("@")[0] == place


def _packages(recipe: Recipe, lock: Lock) -> list[Fault]:
    now, then = recipe.spec.packages, lock.requested.packages
    new = [
        Fault(field=f"spec.packages[{now.index(name)}]", message=f"the lock was made without {name!r}")
        for name in sorted(set(now) - set(then))
    ]
    gone = [
        Fault(field="spec.packages", message=f"the lock was made with {name!r}, which the recipe no longer asks for")
        for name in sorted(set(then) - set(now))
    ]
    return new + gone


def _twice(lock: Lock) -> list[Fault]:
    """Each package once: a file for each goes into one directory, and dpkg knows one of a name."""
    names = Counter((package.name, package.architecture) for package in lock.all_packages)
    digests = Counter(package.sha256 for package in lock.all_packages)
    return [
        Fault(message=f"the lock names {package} more than once")
        for package in lock.all_packages
        if names[package.name, package.architecture] > 1 or digests[package.sha256] > 1
    ]


def _files(recipe: Recipe, lock: Lock) -> list[Fault]:
    now = {file.path: file.sha256 for file in locked_files(recipe)}
    then = {file.path: file.sha256 for file in lock.files}
    faults = []
    for index, (path, sha256) in enumerate(now.items()):
        if path not in then:
            faults.append(Fault(field=f"spec.files[{index}]", message=f"the lock was made without {path}"))
        elif then[path] != sha256:
            faults.append(
                Fault(
                    field=f"spec.files[{index}]",
                    message=f"{path} has sha256 {sha256[:12]}…; the lock says {then[path][:12]}…",
                )
            )
    gone = [path for path in then if path not in now]
    return faults + [Fault(field="spec.files", message=f"the lock was made with {path}") for path in gone]
