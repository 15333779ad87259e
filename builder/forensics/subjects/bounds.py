"""How much of a subject is read, and who may stop that: for subjects that somebody else has sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from builder.image.digests import Readable
from builder.image.entry import Entry
from builder.image.tarheader import ArchiveTooLarge
from builder.image.tarstream import Limits


@dataclass(frozen=True)
class Bounds:
    """`check` is called with everything that is read; what it raises ends the reading."""

    limits: Limits = field(default_factory=Limits)
    check: Callable[[], None] = lambda: None

    def stream(self, stream: Readable) -> Readable:
        return _Checked(stream, self.check)

    def entries(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Raises ArchiveTooLarge."""
        for number, entry in enumerate(entries):
            if number >= self.limits.max_entries:
                raise ArchiveTooLarge(f"the subject has more than {self.limits.max_entries} entries")
            self.check()
            yield entry


@dataclass(frozen=True)
class _Checked:
    of: Readable
    check: Callable[[], None]

    def read(self, size: int, /) -> bytes:
        self.check()
        return self.of.read(size)
