"""The trees of tests.unit.trees on a disk: made there, and read back with what the kernel says of each path."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from pathlib import Path

from builder.image.entry import Entry, EntryType, canonical_key
from tests.unit.trees import Node, Tree, data_parts, entries_of

_TYPES = {
    stat.S_IFREG: EntryType.FILE, stat.S_IFDIR: EntryType.DIRECTORY, stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER, stat.S_IFBLK: EntryType.BLOCK, stat.S_IFIFO: EntryType.FIFO,
}  # fmt: skip
_BITS = {kind: bits for bits, kind in _TYPES.items()}


def walk(root: Path) -> tuple[Entry, ...]:
    """What is below a directory. Needs root, to see it all."""
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for path in root.rglob("*"):
        status = path.lstat()
        names[status.st_dev, status.st_ino].append(os.fsencode(path.relative_to(root)))
    return entries_of(tuple(_node(root, tuple(found)) for found in names.values()))


def _node(root: Path, names: tuple[bytes, ...]) -> Node:
    path = root / os.fsdecode(names[0])
    status = path.lstat()
    kind = _TYPES[stat.S_IFMT(status.st_mode)]
    listed = os.listxattr(path, follow_symlinks=False)
    entry = Entry(
        b"", kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid,
        target=os.fsencode(path.readlink()) if kind is EntryType.SYMLINK else None,
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if status.st_rdev else None,
        xattrs=tuple(sorted((os.fsencode(n), os.getxattr(path, n, follow_symlinks=False)) for n in listed)),
    )  # fmt: skip
    return Node(names, entry, path.read_bytes() if kind is EntryType.FILE else b"")


def build(tree: Tree, root: Path) -> None:
    """Make the tree below a directory, with holes where its data have zeros."""
    for node in sorted(tree, key=lambda node: canonical_key(node.names[0])):
        _make(node, root / os.fsdecode(node.names[0]))
    for node in tree:
        for other in node.names[1:]:
            os.link(root / os.fsdecode(node.names[0]), root / os.fsdecode(other), follow_symlinks=False)


def _make(node: Node, path: Path) -> None:
    entry = node.entry
    if entry.type is EntryType.DIRECTORY:
        path.mkdir()
    elif entry.type is EntryType.SYMLINK:
        path.symlink_to(os.fsdecode(entry.target or b""))
    elif entry.type is EntryType.FILE:
        with path.open("wb", buffering=0) as stream:
            for at, length in data_parts(node.data):
                os.pwrite(stream.fileno(), node.data[at : at + length], at)
            stream.truncate(len(node.data))
    else:
        os.mknod(path, _BITS[entry.type] | 0o600, os.makedev(*(entry.device or (0, 0))))
    # Attributes after the owner: to change the owner takes setuid bits and capabilities away.
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if entry.type is not EntryType.SYMLINK:
        path.chmod(entry.mode)
    for key, value in entry.xattrs:
        os.setxattr(path, key, value, follow_symlinks=False)
