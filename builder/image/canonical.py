"""The canonical form: one tree of files has one encoding, whoever builds it, whenever, in whatever order.

One pass over a tar stream gives a `Tree`: file contents go to a spool file while their digests are taken, so memory
does not grow with the image, and the entries may come in any order. See docs/adr/0005-canonical-form.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from builder.errors import Rejected
from builder.image.canonical_rules import Action, keep_xattr, rule_for
from builder.image.changes import refuse_reserved
from builder.image.digests import EMPTY_SHA256, Readable
from builder.image.entry import Entry, EntryType, shown
from builder.image.settle import link_targets, settle
from builder.image.spool import Spool
from builder.image.tarheader import ArchiveInvalid
from builder.image.tarstream import Limits, read_tar
from builder.image.tree import Tree

_LARGEST_EPOCH = 0o77777777777


class EpochInvalid(Rejected):
    slug = "epoch-invalid"
    title = "The modification time for the image is not valid"


def canonicalise(
    stream: Readable,
    *,
    spool_dir: Path,
    epoch: int,
    limits: Limits | None = None,
    edit: Callable[[Entry], Entry | None] = lambda entry: entry,
) -> Tree:
    """Read a tar archive of a whole file system into its canonical tree.

    `epoch` (seconds since 1970) becomes every entry's modification time. `edit` may change an entry's bits or leave the
    entry out, after the table has been applied; this is where a recipe's hardening comes in. The spool is an unnamed
    file in `spool_dir` as large as the tree's contents; close the tree to give its space back. Raises ArchiveInvalid,
    ArchiveTooLarge, NameReserved, DeviceReserved and EpochInvalid.
    """
    if not 0 <= epoch <= _LARGEST_EPOCH:
        raise EpochInvalid(f"{epoch} is not between 0 and {_LARGEST_EPOCH} seconds since 1970")
    spool = Spool(spool_dir)  # the tree's, from its making on
    try:
        entries, offsets = _read(stream, spool, limits, edit)
        refuse_reserved(entries)
        return Tree(entries, spool, offsets, epoch)
    except BaseException:
        spool.close()
        raise


def _read(
    stream: Readable, spool: Spool, limits: Limits | None, edit: Callable[[Entry], Entry | None]
) -> tuple[list[Entry], dict[bytes, int]]:
    """The entries in canonical order, and for each file where its content is in the spool."""
    stored: dict[bytes, Entry] = {}
    offsets: dict[bytes, int] = {}
    for entry, content in read_tar(stream, limits):
        if entry.type is EntryType.FILE:
            offsets[entry.path] = spool.put(entry.path, content)
        remember(stored, entry)
    for path, digest in spool.finish().items():
        stored[path] = replace(stored[path], sha256=digest)

    def edited(entry: Entry) -> Entry | None:
        kept = _by_the_rules(entry)
        return edit(kept) if kept is not None else None

    entries, first_names = settle(link_targets(stored), stored, edited)
    return entries, {first_names[path]: offset for path, offset in offsets.items() if path in first_names}


def remember(stored: dict[bytes, Entry], entry: Entry) -> None:
    """Add an entry of an archive. Only a directory may come twice, saying the same. Raises ArchiveInvalid."""
    before = stored.setdefault(entry.path, entry)
    if before is not entry and (before != entry or entry.type is not EntryType.DIRECTORY):
        raise ArchiveInvalid(
            f"{shown(entry.path)} is in the archive twice",
            hint="which of the two counts would depend on who reads it; write the archive anew",
        )


def _by_the_rules(entry: Entry) -> Entry | None:
    """What the table makes of an entry; None leaves it out."""
    if any(not keep_xattr(name) for name, _ in entry.xattrs):
        entry = replace(entry, xattrs=tuple(pair for pair in entry.xattrs if keep_xattr(pair[0])))
    rule = rule_for(entry)
    if rule is None:
        return entry
    if rule.action is Action.EMPTY:
        return replace(entry, size=0, sha256=EMPTY_SHA256) if entry.type is EntryType.FILE else entry
    if rule.action is Action.CONTENTS and entry.path == rule.pattern.encode("ascii"):
        is_directory = entry.type is EntryType.DIRECTORY
        return replace(entry, mode=rule.mode, uid=0, gid=0) if is_directory and rule.mode is not None else entry
    return None
