"""The lock: every input of an image, named so that nothing about a build is left to chance."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class LockedPackage(_Part):
    """One .deb, as the archive's signed index states it. `size` in bytes, `sha256` in hex."""

    name: str
    version: str
    architecture: str
    size: int
    sha256: str

    @property
    def purl(self) -> str:
        """A package URL of type deb (purl-spec), in its canonical form: of a version only the `+` is encoded."""
        version = quote(self.version, safe=":~.-")
        return f"pkg:deb/debian/{quote(self.name, safe='.-')}@{version}?arch={self.architecture}"


class LockedArchive(_Part):
    """The signed index a package came from: its suite, its Release file's sha256 and the date that file states."""

    suite: str
    label: str
    release_sha256: str
    date: str


class LockedFile(_Part):
    """A file of the recipe: where it goes in the image, and its sha256 in hex."""

    path: str
    sha256: str


class LockedBase(_Part):
    """What the image starts from: a bootstrapped Debian (its own packages) or an image by digest."""

    suite: str
    architecture: str
    packages: tuple[LockedPackage, ...] = ()
    image: str | None = None
    recipe: str | None = None


class Lock(_Part):
    """Made by resolving a recipe; a build uses exactly this. `epoch` (UTC seconds) is every time in the image:
    the newest of its materials, so it is a function of them and not of the clock."""

    version: int = 1
    recipe_digest: str
    base: LockedBase
    packages: tuple[LockedPackage, ...] = ()
    archives: tuple[LockedArchive, ...] = ()
    files: tuple[LockedFile, ...] = ()
    epoch: int
    builder: str
