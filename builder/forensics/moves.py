"""Files that moved: one that is gone and one that is new, with the same content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from builder.forensics.findings import Difference, Kind
from builder.forensics.weight import weight
from builder.image.entry import Entry
from builder.image.inventory import Record

_MOST_WEIGHT = 32 * 1024 * 1024


class Moves:
    """Pairs removed with added paths, first come, first paired.

    At most 32 MiB of entries, some 50,000, wait for their other half. What finds neither a half that
    waits nor room to wait itself is told as removed or added, which it is. Empty files and all that is no regular file
    (or a hard link to one) are never paired: that they are alike says nothing.
    """

    def __init__(self) -> None:
        self._removed: dict[str, list[Record]] = {}
        self._added: dict[str, list[Entry]] = {}
        self._weight = 0

    def removed(self, record: Record) -> Iterator[Difference]:
        """The move that this completes, or the removal if it cannot wait."""
        content = _content(record.entry)
        if content is not None and (other := _taken(self._added, content)) is not None:
            self._leave(other)
            yield _move(record, other)
        elif content is not None and self._has_room(record.entry):
            self._removed.setdefault(content, []).append(record)
        else:
            yield _removal(record)

    def added(self, entry: Entry) -> Iterator[Difference]:
        """The move that this completes, or the addition if it cannot wait."""
        content = _content(entry)
        if content is not None and (other := _taken(self._removed, content)) is not None:
            self._leave(other.entry)
            yield _move(other, entry)
        elif content is not None and self._has_room(entry):
            self._added.setdefault(content, []).append(entry)
        else:
            yield _addition(entry)

    def unmatched(self) -> Iterator[Difference]:
        """All that waited in vain; ask when both streams are at their ends."""
        for records in self._removed.values():
            yield from map(_removal, records)
        for entries in self._added.values():
            yield from map(_addition, entries)

    def _has_room(self, entry: Entry) -> bool:
        if self._weight >= _MOST_WEIGHT:
            return False
        self._weight += weight(entry)
        return True

    def _leave(self, entry: Entry) -> None:
        self._weight -= weight(entry)


_Half = TypeVar("_Half", Record, Entry)


def _taken(waiting: dict[str, list[_Half]], content: str) -> _Half | None:
    """The one that waits longest, no longer waiting."""
    if (found := waiting.get(content)) is None:
        return None
    if len(found) == 1:
        del waiting[content]
    return found.pop(0)


def _content(entry: Entry) -> str | None:
    return entry.sha256 if entry.size else None


def _removal(record: Record) -> Difference:
    return Difference(record.entry.path, (Kind.REMOVED,), record.entry, None, record.package)


def _addition(entry: Entry) -> Difference:
    return Difference(entry.path, (Kind.ADDED,), None, entry)


def _move(record: Record, entry: Entry) -> Difference:
    golden = record.entry
    return Difference(entry.path, (Kind.MOVED,), golden, entry, record.package, moved_from=golden.path)
