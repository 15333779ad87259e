"""What differs between two locks of one recipe, in the words of whoever reviews an update."""

from __future__ import annotations

from dataclasses import dataclass

from builder.planning.lock import Lock, LockedPackage


@dataclass(frozen=True)
class PackageChange:
    """`before` is None for a new package, `after` for one that goes. Both are there and differ in version or bytes
    otherwise."""

    name: str
    architecture: str
    before: str | None
    after: str | None

    @property
    def rebuilt(self) -> bool:
        """The same version, but other bytes: an archive should never do that."""
        return self.before == self.after

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.name} {self.after}"
        if self.after is None:
            return f"- {self.name} {self.before}"
        if self.rebuilt:
            return f"! {self.name} {self.after}: the same version with other content"
        return f"~ {self.name} {self.before} -> {self.after}"


@dataclass(frozen=True)
class LockChanges:
    """`base` is (before, after) of the base image's digest when it changes; `files` are paths."""

    base: tuple[str, str] | None
    packages: tuple[PackageChange, ...]
    files: tuple[str, ...]
    requested: bool

    @property
    def any(self) -> bool:
        return bool(self.base or self.packages or self.files or self.requested)


def changes_between(before: Lock, after: Lock) -> LockChanges:
    """What `after` would bring. Archives, dates and the builder that made a lock do not count: inputs do."""
    old, new = _by_name(before), _by_name(after)
    packages = tuple(
        PackageChange(
            name,
            architecture,
            old[name, architecture].version if (name, architecture) in old else None,
            new[name, architecture].version if (name, architecture) in new else None,
        )
        for name, architecture in sorted(old.keys() | new.keys())
        if _identity(old.get((name, architecture))) != _identity(new.get((name, architecture)))
    )
    old_files, new_files = ({file.path: file.sha256 for file in lock.files} for lock in (before, after))
    return LockChanges(
        base=(before.base.image or "none", after.base.image or "none")
        if before.base.image_digest != after.base.image_digest
        else None,
        packages=packages,
        files=tuple(
            path for path in sorted(old_files.keys() | new_files.keys()) if old_files.get(path) != new_files.get(path)
        ),
        requested=before.requested != after.requested,
    )


def _by_name(lock: Lock) -> dict[tuple[str, str], LockedPackage]:
    return {(package.name, package.architecture): package for package in lock.all_packages}


def _identity(package: LockedPackage | None) -> tuple[str, str] | None:
    return (package.version, package.sha256) if package else None
