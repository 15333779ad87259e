"""Compares a subject with its golden inventory: two streams in canonical order, merged in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from builder.errors import Rejected
from builder.forensics.expected import Expectation, expected_reason
from builder.image.canonical_rules import keep_xattr
from builder.image.entry import Entry, EntryType, canonical_key, shown
from builder.image.inventory import Package, Record


class OutOfOrder(Rejected):
    slug = "subject-out-of-order"
    title = "The entries to compare are not in canonical order"


class Kind(StrEnum):
    """In what way a path differs; one path may differ in several."""

    ADDED = "added"
    REMOVED = "removed"
    TYPE = "type"
    CONTENT = "content"
    LINK = "link"
    MODE = "mode"
    OWNER = "owner"
    XATTR = "xattr"
    DEVICE = "device"


class Verdict(StrEnum):
    IDENTICAL = "identical"
    EXPECTED = "expected-changes-only"
    DRIFTED = "drifted"


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that differs. `expected` says why that is no drift; `package` installed the golden path."""

    path: bytes
    kinds: tuple[Kind, ...]
    golden: Entry | None
    subject: Entry | None
    package: Package | None = None
    expected: str | None = None


@dataclass(frozen=True)
class Report:
    """The outcome. `drift` and `expected` hold the first differences of each sort, `counts` and the totals all of them.

    `labels_ignored` counts extended attributes of the host (such as SELinux labels) that no golden inventory holds.
    """

    verdict: Verdict
    golden_entries: int
    subject_entries: int
    drift: tuple[Difference, ...]
    expected: tuple[Difference, ...]
    drift_total: int
    expected_total: int
    counts: dict[Kind, int]
    labels_ignored: int


def compare(
    golden: Iterable[Record], subject: Iterable[Entry], *, expectations: Sequence[Expectation] = (), keep: int = 10_000
) -> Report:
    """Compare two streams in canonical order to their ends. `keep` bounds how many differences of each sort are held.

    Raises OutOfOrder, and whatever the streams raise: a report exists only of what could be read in full.
    """
    seen: Counter[str] = Counter()
    counts: Counter[Kind] = Counter()
    drift: list[Difference] = []
    expected: list[Difference] = []
    totals = [0, 0]
    pairs = _pairs(_counted(golden, seen, "golden"), _counted(subject, seen, "subject"))
    for record, entry in pairs:
        difference = _difference(record, entry, expectations, seen)
        if difference is None:
            continue
        into, at = (drift, 0) if difference.expected is None else (expected, 1)
        totals[at] += 1
        if difference.expected is None:
            counts.update(difference.kinds)
        if len(into) < keep:
            into.append(difference)
    verdict = Verdict.DRIFTED if totals[0] else Verdict.EXPECTED if totals[1] else Verdict.IDENTICAL
    return Report(
        verdict=verdict,
        golden_entries=seen["golden"],
        subject_entries=seen["subject"],
        drift=tuple(drift),
        expected=tuple(expected),
        drift_total=totals[0],
        expected_total=totals[1],
        counts=dict(counts),
        labels_ignored=seen["labels"],
    )


def _pairs(golden: Iterator[Record], subject: Iterator[Entry]) -> Iterator[tuple[Record | None, Entry | None]]:
    record, entry = next(golden, None), next(subject, None)
    while record is not None or entry is not None:
        if entry is None or (record is not None and canonical_key(record.entry.path) < canonical_key(entry.path)):
            yield record, None
            record = next(golden, None)
        elif record is None or canonical_key(entry.path) < canonical_key(record.entry.path):
            yield None, entry
            entry = next(subject, None)
        else:
            yield record, entry
            record, entry = next(golden, None), next(subject, None)


_Item = TypeVar("_Item", Record, Entry)


def _counted(items: Iterable[_Item], seen: Counter[str], name: str) -> Iterator[_Item]:
    last: bytes | None = None
    for item in items:
        path = item.entry.path if isinstance(item, Record) else item.path
        key = canonical_key(path)
        if last is not None and key <= last:
            raise OutOfOrder(f"{shown(path)} comes out of order in the {name} entries")
        last = key
        seen[name] += 1
        yield item


def _difference(
    record: Record | None, subject: Entry | None, expectations: Sequence[Expectation], seen: Counter[str]
) -> Difference | None:
    golden = record.entry if record else None
    kinds = tuple(_kinds(golden, subject, seen))
    if not kinds:
        return None
    path = golden.path if golden else subject.path if subject else b""
    return Difference(
        path=path,
        kinds=kinds,
        golden=golden,
        subject=subject,
        package=record.package if record else None,
        expected=expected_reason(path, golden, subject, expectations),
    )


def _kinds(golden: Entry | None, subject: Entry | None, seen: Counter[str]) -> Iterator[Kind]:
    if golden is None or subject is None:
        yield Kind.ADDED if golden is None else Kind.REMOVED
        return
    golden_type, subject_type = _inode_type(golden), _inode_type(subject)
    if golden_type is not subject_type:
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
        kept = tuple(pair for pair in subject.xattrs if keep_xattr(pair[0]))
        seen["labels"] += len(subject.xattrs) - len(kept)
        if golden.xattrs != kept:
            yield Kind.XATTR


def _inode_type(entry: Entry) -> EntryType:
    """A hard link to a file is a file too; which name is the link is a matter of its group, not of its type."""
    if entry.type is EntryType.HARDLINK and entry.sha256 is not None:
        return EntryType.FILE
    return entry.type
