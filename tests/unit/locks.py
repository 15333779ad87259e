"""Locks for tests: any that there could be, and a small one to change one thing of."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from builder.planning.lock import Lock, LockedArchive, LockedBase, LockedFile, LockedPackage, Requested
from builder.recipes.model import Base, DebianBase

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,30}", fullmatch=True)
VERSIONS = st.from_regex(r"([0-9]{1,3}:)?[0-9][A-Za-z0-9.+~-]{0,20}", fullmatch=True)
_SUITES = st.from_regex(r"[a-z][a-z0-9-]{1,20}", fullmatch=True)
_PATHS = st.from_regex(r"pool/[A-Za-z0-9][A-Za-z0-9+._~:%-]{0,20}/[A-Za-z0-9][A-Za-z0-9+._~:%-]{0,20}", fullmatch=True)


def package(
    name: str = "hello", version: str = "2.10-3", sha256: str = "0" * 64, path: str | None = None
) -> LockedPackage:
    return LockedPackage(name=name, version=version, architecture="amd64", size=7, sha256=sha256, path=path)


def lock(**changes: Any) -> Lock:
    """Of a recipe on Debian trixie with the package hello and a file; `changes` are members that are other."""
    small = Lock(
        builder="goldsmith 0",
        epoch=1_700_000_000,
        requested=Requested(base=Base(debian=DebianBase(suite="trixie")), packages=("hello",)),
        archives=(LockedArchive(suite="trixie", label="Debian", release_sha256="f" * 64, date="Sat, 21 Nov"),),
        base=LockedBase(
            suite="trixie", architecture="amd64", packages=(package("apt", sha256="1" * 64), package("libc6"))
        ),
        files=(LockedFile(path="/etc/motd", sha256="d" * 64),),
        packages=(package("hello", sha256="2" * 64, path="pool/main/h/hello/hello_2.10-3_amd64.deb"),),
    )
    return small.model_copy(update=changes)


def on_image(image: str, recipe: str | None = None, **changes: Any) -> Lock:
    """The small lock on an image: a recipe's by its digest, or any by its reference."""
    asked = Base(recipe=recipe) if recipe else Base(image=image)
    base = LockedBase(suite="trixie", architecture="amd64", image=image, recipe=recipe)
    return lock(requested=Requested(base=asked, packages=("hello",)), base=base, **changes)


def _archive(suite: str, label: str, sha256: str) -> LockedArchive:
    return LockedArchive(suite=suite, label=label, release_sha256=sha256, date=f"{label}, 21 Nov")


def _file(name: str, sha256: str) -> LockedFile:
    return LockedFile(path=f"/{name}", sha256=sha256)


PACKAGES = st.builds(package, NAMES, VERSIONS, HEX, st.none() | _PATHS)
_ARCHIVES = st.builds(_archive, _SUITES, st.text(max_size=9), HEX)
_FILES = st.builds(_file, st.text(min_size=1, max_size=9), HEX)


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    """Any lock that a resolution could give."""
    suite, digest = draw(_SUITES), f"sha256:{draw(HEX)}"
    kind = draw(st.sampled_from(["debian", "image", "recipe"]))
    if kind == "debian":
        asked = Base(debian=DebianBase(suite=suite, components=draw(st.sampled_from([["main"], ["main", "contrib"]]))))
        own = draw(st.lists(PACKAGES, min_size=1, max_size=3))
        base = LockedBase(suite=suite, architecture="amd64", packages=tuple(own))
    elif kind == "image":
        asked = Base(image=f"registry.example:5000/a/b@{digest}")
        base = LockedBase(suite=suite, architecture="amd64", image=asked.image)
    else:
        asked = Base(recipe="debian")
        base = LockedBase(suite=suite, architecture="arm64", image=digest, recipe="debian")
    return Lock(
        builder=f"goldsmith {draw(st.text(max_size=9))}",
        epoch=draw(st.integers(0, 2**33 - 1)),
        requested=Requested(base=asked, packages=tuple(draw(st.lists(NAMES, max_size=3)))),
        archives=tuple(draw(st.lists(_ARCHIVES, max_size=3))),
        base=base,
        files=tuple(draw(st.lists(_FILES, max_size=3))),
        packages=tuple(draw(st.lists(PACKAGES, max_size=4))),
    )
