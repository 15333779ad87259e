"""Debian packages kept by their sha256: fetched once, verified whenever they come in, shared by all builds."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from builder.errors import Broken, ProgramFailed, Rejected, Unavailable
from builder.planning.lock import LockedPackage
from builder.process import run

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_END = b"`\n"


class MaterialCorrupt(Broken):
    slug = "material-corrupt"
    title = "A package is not what its index says"


class MaterialMissing(Unavailable):
    slug = "material-missing"
    title = "A package that was locked is not kept any more"


class PackageUnreadable(Rejected):
    slug = "package-unreadable"
    title = "A file is not a Debian package"


class DebStore:
    """A directory of `<sha256>.deb` files. Files come in by rename, so that a reader never sees half of one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self._directory / f"{sha256}.deb"

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def add(self, source: Path, sha256: str) -> None:
        """Copy a file in. Raises MaterialCorrupt if its digest is another."""
        handle, name = tempfile.mkstemp(dir=self._directory, prefix=".incoming-")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as target, source.open("rb") as stream:
                shutil.copyfileobj(stream, target, 1024 * 1024)
            self._verify(temporary, sha256, source.name)
            temporary.replace(self.path(sha256))
        finally:
            temporary.unlink(missing_ok=True)

    def verified(self, package: LockedPackage) -> Path:
        """The file of a locked package, its digest checked anew. Raises MaterialCorrupt or MaterialMissing."""
        path, name = self.path(package.sha256), f"{package.name} {package.version}"
        if not path.exists():
            raise MaterialMissing(f"{name} is not kept any more", hint="build again: it is then fetched anew")
        self._verify(path, package.sha256, name, hint=f"remove {path}, and build again")
        return path

    def _verify(self, path: Path, sha256: str, name: str, hint: str | None = None) -> None:
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != sha256:
            raise MaterialCorrupt(f"{name} has sha256 {actual}; the index says {sha256}", hint=hint)


def control_of(path: Path) -> str:
    """The control fields of a package, as text. Raises PackageUnreadable."""
    try:
        return run(["dpkg-deb", "--field", path], timeout=30).stdout.decode("utf-8", "replace")
    except ProgramFailed as error:
        raise PackageUnreadable(f"{path.name} is not a Debian package: {error.stderr_tail}") from error


def made_at(path: Path) -> int:
    """When a package was made, in UTC seconds: the time of the first member of its ar archive (deb(5)), which dpkg
    takes from the changelog. Raises PackageUnreadable."""
    with path.open("rb") as stream:
        head = stream.read(68)
    time = head[24:36].rstrip(b" ")
    if not (head.startswith(_AR_MAGIC) and head.endswith(_AR_HEADER_END) and time.isdigit()):
        raise PackageUnreadable(f"{path.name} is not a Debian package")
    return int(time)


def field(control: str, name: str) -> str:
    """One single-line field of control text; empty when it is not there."""
    prefix = name + ":"
    return next((line[len(prefix) :].strip() for line in control.splitlines() if line.startswith(prefix)), "")
