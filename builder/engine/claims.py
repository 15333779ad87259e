"""What an image says of itself and scanners believe: which packages it has, and of which distribution it is.

A recipe's files and commands may not change either once the packages are in, or findings would be of another image.
"""

from __future__ import annotations

import os
import re
from collections import ChainMap, Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from builder.engine.container import Container
from builder.errors import Rejected
from builder.image.entry import Entry, EntryType
from builder.image.tree import Tree

_STATUS = "var/lib/dpkg/status"
# Where images without dpkg have a file for each package.
_SINGLES = "var/lib/dpkg/status.d"
# Every file by which a scanner tells distributions apart is one of these: os-release(5), debian_version, lsb-release …
_RELEASES = {"etc": re.compile(r"[^/]*(-release|_version)"), "usr/lib": re.compile(r"os-release")}
_INSTALLED = b"install ok installed"
_LINE = re.compile(rb"[!-9;-~]+:[^\x00-\x08\x0b-\x1f\x7f]*|[ \t][^\x00-\x08\x0b-\x1f\x7f]*")
_WAY_OUT = "commands and files may not touch what says so; leave packages out of the base or of spec.packages instead"

Package = tuple[str, str, str]


class PackagesVanished(Rejected):
    slug = "packages-vanished"
    title = "The recipe changed what its image says is installed"


class ReleaseChanged(Rejected):
    slug = "release-changed"
    title = "The recipe changed of which distribution its image says it is"


@dataclass(frozen=True)
class Claims:
    """dpkg's status, empty where there is none, the files that name the distribution, and those that stand for a single
    package each: content, or where a link leads."""

    status: bytes = b""
    releases: Mapping[str, bytes] = field(default_factory=dict)
    singles: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of_container(cls, container: Container) -> Claims:
        def files(directory: str, wanted: Callable[[str], object]) -> dict[str, bytes]:
            return {
                f"{directory}/{name}": content if header.isfile() else b"-> " + os.fsencode(header.linkname)
                for name, header, content in container.members(f"/{directory}", wanted)
                if not header.isdir()
            }

        releases = [files(directory, named.fullmatch) for directory, named in _RELEASES.items()]
        status = container.read(f"/{_STATUS}") or b""
        return cls(status, dict(ChainMap(*releases)), files(_SINGLES, lambda name: "/" not in name))

    @classmethod
    def of_tree(cls, tree: Tree) -> Claims:
        releases: dict[str, bytes] = {}
        singles: dict[str, bytes] = {}
        for entry in tree.entries:
            path = entry.path.decode("utf-8", "surrogateescape")
            directory, _, name = path.rpartition("/")
            if entry.type is EntryType.DIRECTORY:
                continue
            if directory in _RELEASES and _RELEASES[directory].fullmatch(name):
                releases[path] = _content(tree, entry)
            elif directory == _SINGLES:
                singles[path] = _content(tree, entry)
        status = tree.get(_STATUS.encode())
        return cls(_content(tree, status) if status is not None else b"", releases, singles)


def refuse_changed(before: Claims, after: Claims) -> None:
    """Packages may be added and nothing else. Raises PackagesVanished or ReleaseChanged.

    Stanzas are compared byte by byte: a scanner and we would read some of what a recipe could write there differently.
    """
    old, new = _stanzas(before.status), _stanzas(after.status)
    gone = {_shown(stanza) for stanza in old - new if _INSTALLED in _fields(stanza).get(b"status", [])}
    if gone:
        raise PackagesVanished(
            f"{len(gone)} packages are no longer listed as they were installed: {', '.join(sorted(gone)[:5])}",
            hint=_WAY_OUT,
        )
    for stanza in new - old:
        fields = _fields(stanza)
        if not all(map(_LINE.fullmatch, stanza.split(b"\n"))) or any(len(values) > 1 for values in fields.values()):
            raise PackagesVanished(
                f"/{_STATUS} has a stanza that can be read in more ways than one: {_shown(stanza)}", hint=_WAY_OUT
            )
    named = Counter((name, architecture) for name, _, architecture in map(_package, new) if name)
    twice = sorted({name for (name, _), count in named.items() if count > 1})
    if twice:
        raise PackagesVanished(f"/{_STATUS} has {', '.join(twice[:5])} twice", hint=_WAY_OUT)
    altered = sorted(path for path, content in before.singles.items() if after.singles.get(path) != content)
    if altered:
        raise PackagesVanished(f"/{altered[0]} is not what it was when it was installed", hint=_WAY_OUT)
    changed = sorted(
        path for path in {**before.releases, **after.releases} if before.releases.get(path) != after.releases.get(path)
    )
    if changed:
        raise ReleaseChanged(f"/{changed[0]} says of which distribution the image is, and was changed", hint=_WAY_OUT)


def parse_status(status: bytes) -> set[Package]:
    """(name, version, architecture) of every package that dpkg's status calls installed."""
    return {
        package
        for stanza in _stanzas(status)
        if _fields(stanza).get(b"status") == [_INSTALLED] and all(package := _package(stanza))
    }


def _stanzas(status: bytes) -> set[bytes]:
    """Lines end as they do for dpkg, at nothing but a newline."""
    return {stanza.strip(b"\n") for stanza in status.split(b"\n\n")} - {b""}


def _fields(stanza: bytes) -> dict[bytes, list[bytes]]:
    """Every value that a field has, on its first line; names in small letters."""
    found: dict[bytes, list[bytes]] = {}
    for line in stanza.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and not line.startswith((b" ", b"\t")):
            found.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return found


def _package(stanza: bytes) -> Package:
    """Empty for what the stanza does not say once."""
    fields = _fields(stanza)

    def only(name: bytes) -> str:
        values = fields.get(name, [])
        return values[0].decode("utf-8", "replace") if len(values) == 1 else ""

    return only(b"package"), only(b"version"), only(b"architecture")


def _shown(stanza: bytes) -> str:
    name, version, _ = _package(stanza)
    return f"{name} {version}" if name else repr(stanza[:60].decode("utf-8", "replace"))


def _content(tree: Tree, entry: Entry) -> bytes:
    return (
        tree.read(entry.path) if entry.type in (EntryType.FILE, EntryType.HARDLINK) else b"-> " + (entry.target or b"")
    )
