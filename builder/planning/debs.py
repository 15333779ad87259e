"""Debian packages kept by their sha256: fetched once, verified whenever they come in, shared by all builds."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from builder.errors import Broken, ProgramFailed, Rejected, Unavailable
from builder.eviction import Kept, least_recently_used
from builder.locking import exclusive
from builder.planning.lock import LockedPackage
from builder.process import run

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_END = b"`\n"
_AGAIN = "build again: it is then fetched anew"
_INCOMING = ".incoming-"
_ABANDONED_SECONDS = 24 * 3600  # whoever still copies a file after a day is dead


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
    """A directory of `<sha256>.deb` files. Files come in by rename, so that a reader never sees half of one.

    A file's mtime is its last use. Uses and `trim` exclude each other by a lock, and `trim` spares what was used
    lately: so a file that `has`, `add` or `verified` answered for is there for `keep_seconds`. What `take` answered for
    is the taker's own for good.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self._directory / f"{sha256}.deb"

    def all(self) -> frozenset[str]:
        """The sha256 of every package that is kept now. To list is not to use."""
        return frozenset(file.stem for file in self._directory.glob("*.deb"))

    def has(self, sha256: str) -> bool:
        """Whether a package is kept. To ask is to use it."""
        with self._locked():
            try:
                os.utime(self.path(sha256))
            except FileNotFoundError:
                return False
            return True

    def add(self, source: Path, sha256: str) -> None:
        """Copy a file in. Raises MaterialCorrupt if its digest is another."""
        handle, name = tempfile.mkstemp(dir=self._directory, prefix=_INCOMING)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as target, source.open("rb") as stream:
                shutil.copyfileobj(stream, target, 1024 * 1024)
            self._verify(temporary, sha256, source.name)
            with self._locked():
                os.utime(temporary)
                temporary.replace(self.path(sha256))
        finally:
            temporary.unlink(missing_ok=True)

    def verified(self, package: LockedPackage) -> Path:
        """The file of a locked package, its digest checked anew. Raises MaterialCorrupt or MaterialMissing."""
        path = self.path(package.sha256)
        if not self.has(package.sha256):
            raise _missing(package)
        self._verify(path, package.sha256, _named(package), hint=f"remove {path}, and build again")
        return path

    def take(self, package: LockedPackage, destination: Path) -> None:
        """Put the file of a locked package at `destination`, a link if possible, and check its digest there.

        Raises MaterialCorrupt or MaterialMissing.
        """
        path = self.path(package.sha256)
        if not self.has(package.sha256):
            raise _missing(package)
        try:
            _link_or_copy(path, destination)
        except FileNotFoundError as error:
            raise _missing(package) from error
        self._verify(destination, package.sha256, _named(package), hint=f"remove {path}, and build again")

    def trim(self, limit: int, *, keep_seconds: float) -> int:
        """Remove the least recently used packages until at most `limit` bytes stay; answers how many bytes went.

        What was used within `keep_seconds` stays, also if it is more than `limit`: that should be as long as anybody
        works with a file that `has` or `verified` promised.
        """
        now = time.time()
        with self._locked():
            going = least_recently_used(self._kept("*.deb"), limit, now - keep_seconds)
            abandoned = [one for one in self._kept(f"{_INCOMING}*") if one.used < now - _ABANDONED_SECONDS]
            for one in (*going, *abandoned):
                (self._directory / one.name).unlink(missing_ok=True)
        return sum(one.size for one in (*going, *abandoned))

    def _kept(self, pattern: str) -> Iterator[Kept]:
        for path in self._directory.glob(pattern):
            with suppress(FileNotFoundError):  # it has just come in, or somebody removed it
                status = path.stat()
                yield Kept(path.name, status.st_size, status.st_mtime)

    def _locked(self) -> AbstractContextManager[None]:
        return exclusive(self._directory.with_name(f"{self._directory.name}.lock"))

    def _verify(self, path: Path, sha256: str, name: str, hint: str | None = None) -> None:
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != sha256:
            raise MaterialCorrupt(f"{name} has sha256 {actual}; the index says {sha256}", hint=hint)


def _named(package: LockedPackage) -> str:
    return f"{package.name} {package.version}"


def _missing(package: LockedPackage) -> MaterialMissing:
    return MaterialMissing(f"{_named(package)} is not kept any more", hint=_AGAIN)


def _link_or_copy(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, destination)


def control_of(path: Path) -> str:
    """The control fields of a package, as text. Raises PackageUnreadable."""
    try:
        return run(["dpkg-deb", "--field", path], timeout=30).stdout.decode("utf-8", "replace")
    except ProgramFailed as error:
        raise PackageUnreadable(f"{path.name} is not a Debian package: {error.stderr_tail}") from error


def made_at(path: Path) -> int:
    """When a package was made, in UTC seconds: the time of the first member of its ar archive (deb(5)), which dpkg
    takes from the changelog. Raises PackageUnreadable or MaterialMissing."""
    try:
        with path.open("rb") as stream:
            head = stream.read(68)
    except FileNotFoundError as error:
        raise MaterialMissing(f"{path.name} is not kept any more", hint=_AGAIN) from error
    time = head[24:36].rstrip(b" ")
    if not (head.startswith(_AR_MAGIC) and head.endswith(_AR_HEADER_END) and time.isdigit()):
        raise PackageUnreadable(f"{path.name} is not a Debian package")
    return int(time)


def field(control: str, name: str) -> str:
    """One single-line field of control text; empty when it is not there."""
    prefix = name + ":"
    # Not splitlines(): it ends lines where dpkg does not.
    return next((line[len(prefix) :].strip() for line in control.split("\n") if line.startswith(prefix)), "")
