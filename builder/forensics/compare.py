"""Compares a subject with its golden inventory: two streams in canonical order, merged in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from builder.errors import Rejected
from builder.forensics.findings import Difference, Finding, Kind, Outcome, Severity
from builder.forensics.gravest import Gravest
from builder.forensics.moves import Moves
from builder.image.canonical_rules import keep_xattr
from builder.image.entry import Entry, EntryType, canonical_key, shown
from builder.image.inventory import Record

_CAPABILITY = b"security.capability"


class OutOfOrder(Rejected):
    slug = "subject-out-of-order"
    title = "The entries to compare are not in canonical order"


def compare(
    golden: Iterable[Record],
    subject: Iterable[Entry],
    *,
    judge: Callable[[Difference], Finding],
    keep: int = 10_000,
) -> Outcome:
    """Compare two streams in canonical order to their ends. `judge` is asked once about each difference.

    `keep` bounds how many findings of each sort are held; fewer if their paths and attributes are large. A removed
    and an added file with the same content are one difference, MOVED, as far as `Moves` can remember them; what else
    changed with the move is named beside it. Raises OutOfOrder, and whatever the streams raise: an outcome exists only
    of what could be read in full.
    """
    seen: Counter[str] = Counter()
    by_kind: Counter[Kind] = Counter()
    by_severity: Counter[Severity] = Counter()
    findings = Gravest(keep)
    expected = Gravest(keep)
    for difference in _differences(golden, subject, seen):
        finding = judge(difference)
        if finding.expected is not None:
            expected.add(finding)
            continue
        findings.add(finding)
        by_kind.update(difference.kinds)
        by_severity[finding.severity] += 1
    return Outcome(
        golden_entries=seen["golden"],
        subject_entries=seen["subject"],
        findings=findings.found(),
        expected=expected.found(),
        findings_total=findings.total,
        expected_total=expected.total,
        by_kind=dict(by_kind),
        by_severity=dict(by_severity),
        labels_ignored=seen["labels"],
    )


def _differences(golden: Iterable[Record], subject: Iterable[Entry], seen: Counter[str]) -> Iterator[Difference]:
    moves = Moves()
    for record, entry in _pairs(golden, subject, seen):
        if record is not None and entry is not None:
            if record.entry != entry and (kinds := tuple(_kinds(record.entry, entry, seen))):
                yield Difference(entry.path, kinds, record.entry, entry, record.package)
        elif record is not None:
            yield from _moved(moves.removed(record), seen)
        elif entry is not None:
            yield from _moved(moves.added(entry), seen)
    yield from moves.unmatched()


def _moved(found: Iterable[Difference], seen: Counter[str]) -> Iterator[Difference]:
    """With what else changed on the way."""
    for one in found:
        if one.golden is not None and one.subject is not None:
            also = (kind for kind in _kinds(one.golden, one.subject, seen) if kind is not Kind.LINK)
            yield Difference(
                one.path, (Kind.MOVED, *also), one.golden, one.subject, one.package, moved_from=one.moved_from
            )
        else:
            yield one


def _pairs(
    golden: Iterable[Record], subject: Iterable[Entry], seen: Counter[str]
) -> Iterator[tuple[Record | None, Entry | None]]:
    """What has the same path, side by side. A stream at its end has the key None."""
    records = _keyed(golden, lambda record: record.entry.path, seen, "golden")
    entries = _keyed(subject, lambda entry: entry.path, seen, "subject")
    at, record = next(records)
    key, entry = next(entries)
    while at is not None or key is not None:
        if at == key:
            yield record, entry
            at, record = next(records)
            key, entry = next(entries)
        elif key is None or (at is not None and at < key):
            yield record, None
            at, record = next(records)
        else:
            yield None, entry
            key, entry = next(entries)


_Item = TypeVar("_Item", Record, Entry)


def _keyed(
    items: Iterable[_Item], path_of: Callable[[_Item], bytes], seen: Counter[str], name: str
) -> Iterator[tuple[bytes | None, _Item | None]]:
    last = b""  # sorts before every path
    count = 0
    for item in items:
        key = canonical_key(path_of(item))
        if key <= last:
            raise OutOfOrder(f"{shown(path_of(item))} comes out of order in the {name} entries")
        last = key
        count += 1
        yield key, item
    seen[name] = count
    yield None, None


def _kinds(golden: Entry, subject: Entry, seen: Counter[str]) -> Iterator[Kind]:
    if _inode_type(golden) is not _inode_type(subject):
        yield Kind.TYPE
        return
    if (golden.sha256, golden.size) != (subject.sha256, subject.size):
        yield Kind.CONTENT
    if (golden.type, golden.target) != (subject.type, subject.target):
        yield Kind.LINK
    if golden.mode != subject.mode:
        yield Kind.MODE
    if (golden.uid, golden.gid) != (subject.uid, subject.gid):
        yield Kind.OWNER
    if golden.device != subject.device:
        yield Kind.DEVICE
    if golden.xattrs != subject.xattrs:
        kept = {name: value for name, value in subject.xattrs if keep_xattr(name)}
        seen["labels"] += len(subject.xattrs) - len(kept)
        before = dict(golden.xattrs)
        if before.pop(_CAPABILITY, None) != kept.pop(_CAPABILITY, None):
            yield Kind.CAPABILITY
        if before != kept:
            yield Kind.XATTR


def _inode_type(entry: Entry) -> EntryType:
    """A hard link to a file is a file too; which name is the link is a matter of its group, not of its type."""
    if entry.type is EntryType.HARDLINK and entry.sha256 is not None:
        return EntryType.FILE
    return entry.type
