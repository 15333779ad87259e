"""A flat, read-only package archive of exactly the locked .debs: the only source a hermetic installation has."""

from __future__ import annotations

import os
import shutil
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
        source = debs.verified(package)
        name = f"{package.sha256}.deb"
        try:
            os.link(source, directory / name)
        except OSError:
            shutil.copyfile(source, directory / name)
        stanzas.append(
            f"{control_of(source).rstrip()}\nFilename: ./{name}\nSize: {package.size}\nSHA256: {package.sha256}\n"
        )
    (directory / "Packages").write_text("\n".join(stanzas), "utf-8")
