"""A flat, read-only package archive of exactly the locked .debs: the only source a hermetic installation has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from builder.planning.debs import DebStore, control_of
from builder.planning.lock import LockedPackage


def write_flat_archive(directory: Path, packages: Iterable[LockedPackage], debs: DebStore) -> None:
    """Fill `directory` with the packages and a Packages index (deb822, as apt reads it from `deb … ./`).

    Each file's digest is checked on the way. Raises MaterialCorrupt, MaterialMissing or PackageUnreadable.
    """
    stanzas = []
    for package in packages:
        file = directory / f"{package.sha256}.deb"
        debs.take(package, file)
        stanzas.append(
            f"{control_of(file).rstrip()}\nFilename: ./{file.name}\nSize: {package.size}\nSHA256: {package.sha256}\n"
        )
    (directory / "Packages").write_text("\n".join(stanzas), "utf-8")
