"""Inventories as subjects, taken elsewhere by the collector or by `goldsmith inventory`; and how one is taken here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.forensics.subjects.bounds import Bounds
from builder.forensics.subjects.subject import Described, Subject, SubjectKind, SubjectUnreadable, is_at_or_below
from builder.image.entry import Entry, shown
from builder.image.inventory import Inventory, Origin, open_inventory, write_inventory

_NO_CONFIGURATION = "how the container was started: an inventory has no configuration"


class InventorySubject:
    """What an inventory lists. That it tells the truth about what it was taken of is for its taker to say."""

    configuration = None

    def __init__(self, path: Path, bounds: Bounds | None = None) -> None:
        """Raises SubjectUnreadable and InventoryInvalid."""
        self._path = path
        self._bounds = bounds or Bounds()
        try:
            with open_inventory(path) as (header, _):
                origin = header.subject or Origin(kind=SubjectKind.INVENTORY, name=str(path))
        except OSError as error:
            raise SubjectUnreadable(f"{path} cannot be read: {error.strerror}") from error
        self._unseen = frozenset(unseen.lstrip("/").encode("utf-8") for unseen in origin.unseen)
        # The taker's word may be short of it; what cannot be in an inventory is known anyhow.
        self.unproven = (
            *(origin.unproven or (f"what lies at {unseen}" for unseen in origin.unseen)),
            *((_NO_CONFIGURATION,) if origin.kind == SubjectKind.CONTAINER else ()),
        )
        self.described = Described(
            SubjectKind.INVENTORY,
            origin.name,
            id=origin.id,
            image_digests=origin.images,
            state=origin.state,
            mounts=origin.mounts,
            unseen=tuple(sorted(self._unseen)),
        )

    def looked_at(self, path: bytes) -> bool:
        return not is_at_or_below(path, self._unseen)

    @contextmanager
    def entries(self, directory: Path) -> Iterator[Iterator[Entry]]:  # noqa: ARG002
        """Raises InventoryInvalid, for a wrong count or root only after the last entry."""
        with open_inventory(self._path) as (_, records):
            yield self._bounds.entries(record.entry for record in records)

    def contents(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:  # noqa: ARG002
        """None: an inventory has digests only."""
        return iter(())


def take_inventory(subject: Subject, destination: Path) -> Inventory:
    """Write the inventory of a subject to a new file. Raises what reading the subject raises."""
    with subject.entries(destination.parent) as entries:
        return write_inventory(entries, destination, origin=lambda: _origin(subject))


def _origin(subject: Subject) -> Origin:
    described = subject.described
    return Origin(
        kind=described.kind,
        name=described.name,
        id=described.id,
        images=described.image_digests,
        state=described.state,
        mounts=described.mounts,
        unproven=subject.unproven,
        unseen=tuple(map(shown, described.unseen)),
    )
