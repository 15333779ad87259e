"""Which Debian package installed a path, read from dpkg's own records inside the tree."""

from __future__ import annotations

from builder.image.entry import Entry, EntryType
from builder.image.inventory import Package
from builder.image.tree import Tree

_INFO = b"var/lib/dpkg/info/"
_STATUS = b"var/lib/dpkg/status"
_DIVERSIONS = b"var/lib/dpkg/diversions"


class Ownership:
    """Answers `owner(entry)`. Directories have no owner: packages share them. Empty for a tree without dpkg."""

    def __init__(self, tree: Tree) -> None:
        self._owners: dict[bytes, Package] = {}
        versions = _versions(_file(tree, _STATUS))
        moved = _diversions(_file(tree, _DIVERSIONS))
        # On a merged /usr, packages may still list /lib/x for what lies in /usr/lib/x.
        merged = {
            e.path: e.target for e in tree.entries if e.type is EntryType.SYMLINK and b"/" not in e.path and e.target
        }
        for entry in tree.entries:
            if not (entry.path.startswith(_INFO) and entry.path.endswith(b".list")):
                continue
            name = entry.path.removeprefix(_INFO).removesuffix(b".list").partition(b":")[0].decode("utf-8", "replace")
            package = Package(name, versions.get(name, ""))
            for line in _file(tree, entry.path).split(b"\n"):
                diverted_to, by = moved.get(line, (line, name))
                path = (line if by == name else diverted_to).lstrip(b"/")
                top, slash, rest = path.partition(b"/")
                if slash and top in merged:
                    path = merged[top].lstrip(b"/") + b"/" + rest
                self._owners[path] = package

    def owner(self, entry: Entry) -> Package | None:
        return None if entry.type is EntryType.DIRECTORY else self._owners.get(entry.path)


def _file(tree: Tree, path: bytes) -> bytes:
    """The file's content; nothing for what is no file, since a tree may be anybody's."""
    entry = tree.get(path)
    return tree.read(path) if entry and entry.type in (EntryType.FILE, EntryType.HARDLINK) else b""


def _versions(status: bytes) -> dict[str, str]:
    """Package name -> version. Versions of one name agree: packages of several architectures are kept in step."""
    versions = {}
    name = ""
    for line in status.decode("utf-8", "replace").split("\n"):
        key, _, value = line.partition(": ")
        if key == "Package":
            name = value
        elif key == "Version":
            versions[name] = value
    return versions


def _diversions(data: bytes) -> dict[bytes, tuple[bytes, str]]:
    """Original path -> (where other packages' files go instead, the package that asked for it)."""
    lines = data.split(b"\n")
    return {lines[at]: (lines[at + 1], lines[at + 2].decode("utf-8", "replace")) for at in range(0, len(lines) - 2, 3)}
