"""What a child layer must hold to turn a base into a tree (image-spec, layer.md: change types, whiteouts).

Three rules keep every engine to the same result. The directories above a change are written too, for an engine that
unpacks layers one by one would make missing ones with modes of its own. A hard link group of which one name changed is
written whole, for a link cannot reach into the layer below. Paths that an engine makes for itself get no whiteout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builder.errors import Rejected
from builder.image.canonical_rules import is_engine_path
from builder.image.entry import Entry, EntryType, canonical_key, parents, shown

WHITEOUT = b".wh."


class NameReserved(Rejected):
    slug = "name-reserved"
    title = "A name in the image is reserved by the layer format"


class DeviceReserved(Rejected):
    slug = "device-reserved"
    title = "A device in the image means a deleted file to engines"


@dataclass(frozen=True)
class Changes:
    """The difference between a base and a tree, each part in canonical order.

    `layer_entries` is what the child layer's tar holds: `added` and `changed`, the other names of their hard link
    groups, the directories above all of them, and a whiteout for each path in `removed`.
    """

    added: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    removed: tuple[bytes, ...]
    layer_entries: tuple[Entry, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def diff(base: Sequence[Entry], tree: Sequence[Entry]) -> Changes:
    """Compare two trees, modification times aside. `base` is what the lower layers really hold (see `flatten`).

    Raises NameReserved and DeviceReserved.
    """
    refuse_reserved(tree)
    before = {entry.path: entry for entry in base}
    after = {entry.path: entry for entry in tree}
    added = [entry for entry in tree if entry.path not in before]
    changed = [entry for entry in tree if entry.path in before and before[entry.path] != entry]
    removed = _removed(before, after)

    changed_groups = {_group(entry) for entry in (*added, *changed)}
    written = {entry.path: entry for entry in (*added, *changed)}
    for entry in tree:
        if entry.type is EntryType.HARDLINK and _group(entry) in changed_groups:
            first = after[_group(entry)]
            written[entry.path] = entry
            written[first.path] = first
    for path in removed:
        directory, _, name = path.rpartition(b"/")
        whiteout = (directory + b"/" if directory else b"") + WHITEOUT + name
        written[whiteout] = Entry(whiteout, EntryType.FILE, 0, 0, 0)
    for path in list(written):
        written.update({parent: after[parent] for parent in parents(path)})
    return Changes(
        added=tuple(added),
        changed=tuple(changed),
        removed=tuple(removed),
        layer_entries=tuple(sorted(written.values(), key=lambda entry: canonical_key(entry.path))),
    )


def refuse_reserved(tree: Iterable[Entry]) -> None:
    """Refuse what engines read as an order to delete: names that begin with ".wh.", and overlayfs's own mark.

    Raises NameReserved and DeviceReserved.
    """
    for entry in tree:
        if entry.type is EntryType.CHARACTER and entry.device == (0, 0):
            raise DeviceReserved(
                f"{shown(entry.path)} is the character device 0:0, by which overlayfs marks deleted files",
                hint="remove the device",
            )
        if entry.path.rpartition(b"/")[2].startswith(WHITEOUT):
            raise NameReserved(
                f"{shown(entry.path)} begins with .wh., which an image layer uses to mark deleted files",
                hint="rename the file",
            )


def _group(entry: Entry) -> bytes:
    return entry.target if entry.type is EntryType.HARDLINK and entry.target else entry.path


def _removed(before: dict[bytes, Entry], after: dict[bytes, Entry]) -> list[bytes]:
    """Paths to white out: the topmost ones only, and none below what is no directory any more."""
    removed = []
    for path in sorted(before, key=canonical_key):
        if path in after or is_engine_path(path):
            continue
        above = parents(path)
        if above and not (above[0] in after and after[above[0]].type is EntryType.DIRECTORY):
            continue
        removed.append(path)
    return removed
