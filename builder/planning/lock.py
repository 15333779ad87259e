"""The lock: every input of an image, named so that nothing about a build is left to chance."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal
from urllib.parse import quote

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from builder.derived import derived
from builder.recipes.model import Base

_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Words that become arguments of apt and mmdebstrap and parts of file names: what Debian allows in them, and no more.
_PackageWord = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]*$", max_length=200)]
_Version = Annotated[str, StringConstraints(pattern=r"^[0-9][A-Za-z0-9.+:~-]*$", max_length=200)]
# Empty where nothing was resolved: an image without packages of its own was not asked for its suite.
_Suite = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9-]{1,30})?$")]
_PoolPath = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._~:%-]*(/[A-Za-z0-9][A-Za-z0-9+._~:%-]*)*$", max_length=400),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class LockedPackage(_Part):
    """One .deb, as the archive's signed index states it. `size` in bytes, `sha256` in hex; `path` is where an archive
    keeps it, below its base URL; `vendor` who made it, where that is not Debian."""

    name: _PackageWord
    version: _Version
    architecture: _PackageWord
    size: Annotated[int, Field(ge=0, lt=2**53)]  # what JSON can carry exactly
    sha256: _Sha256
    path: _PoolPath | None = None
    vendor: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]{0,30}$")] | None = None

    @property
    def made_by(self) -> str:
        return self.vendor or "debian"

    @property
    def purl(self) -> str:
        """A package URL of type deb (purl-spec), in its canonical form: of a version only the `+` is encoded."""
        version = quote(self.version, safe=":~.-")
        return f"pkg:deb/{self.made_by}/{quote(self.name, safe='.-')}@{version}?arch={self.architecture}"

    @property
    def filename(self) -> str:
        """As Debian names such a file: without the version's epoch, which no file name holds."""
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.architecture}.deb"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class LockedArchive(_Part):
    """The signed index a package came from: its suite, its Release file's sha256 and the date that file states."""

    suite: str
    label: str
    release_sha256: _Sha256
    date: str


class LockedFile(_Part):
    """A file of the recipe: where it goes in the image, and its sha256 in hex."""

    path: str
    sha256: _Sha256


class LockedBase(_Part):
    """What the image starts from: a bootstrapped Debian (its own packages), or an image.

    `image` is its digest when it is another recipe's, so that a lock means the same beside any registry; else it is a
    whole reference by digest.
    """

    suite: _Suite
    architecture: _PackageWord
    packages: tuple[LockedPackage, ...] = ()
    image: Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9.:/_-]*@)?sha256:[0-9a-f]{64}$")] | None = None
    recipe: str | None = None

    @property
    def image_digest(self) -> str | None:
        return self.image.rpartition("@")[2] if self.image else None


@derived(8)
def _canonical(lock: Lock) -> bytes:
    return rfc8785.dumps(lock.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"version": 1})


class Requested(_Part):
    """The part of a recipe that was resolved; a lock holds for every recipe that has the same."""

    base: Base
    packages: tuple[str, ...] = ()


class Lock(_Part):
    """Made by resolving a recipe; a build uses exactly this. `epoch` (UTC seconds) is every time in the image:
    the newest of its materials, so it is a function of them and not of the clock. `builder` made the lock."""

    version: Literal[1] = 1
    builder: str
    epoch: Annotated[int, Field(ge=0, lt=2**33)]
    requested: Requested
    archives: tuple[LockedArchive, ...] = ()
    base: LockedBase
    files: tuple[LockedFile, ...] = ()
    packages: tuple[LockedPackage, ...] = ()

    @property
    def all_packages(self) -> tuple[LockedPackage, ...]:
        """The base's own packages first."""
        return (*self.base.packages, *self.packages)

    def canonical(self) -> bytes:
        """RFC 8785 JSON: what the lock's digest is over."""
        return _canonical(self)

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.canonical()).hexdigest()
