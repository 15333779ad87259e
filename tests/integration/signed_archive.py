"""Signed Debian archives with small packages, on loopback."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.planning.extra import ExtraArchive
from scripts.imaging.archive import serving, write_archive


def small_package(directory: Path, name: str, version: str = "1.0") -> Path:
    """A .deb with one file that says its version."""
    root = directory / f"{name}-{version}"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr/share" / name).mkdir(parents=True)
    (root / "usr/share" / name / "version").write_text(f"{version}\n")
    control = f"""\
        Package: {name}
        Version: {version}
        Architecture: all
        Maintainer: Acme <packages@acme.example>
        Description: A package of tests
        """
    (root / "DEBIAN/control").write_text(textwrap.dedent(control))
    made = directory / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, made], check=True, capture_output=True)
    return made


@contextmanager
def acme_archive(
    directory: Path, *packages: Path, suite: str = "trixie", origin: str = "Acme"
) -> Iterator[ExtraArchive]:
    keyring = write_archive(directory / "archive", packages, suite=suite, origin=origin, gnupg=directory / "gnupg")
    with serving(directory / "archive") as url:
        yield ExtraArchive(vendor="acme", url=url, keyring=str(keyring), suites=[suite])
