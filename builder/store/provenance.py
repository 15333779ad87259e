"""Releases as auditors look for them: by recipe, image, time, requester, package or finding, the newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import Session

from builder.store.components import PackageWanted, images_with
from builder.store.database import Database
from builder.store.schema import Finding, Record, Release

_PAGE = 1000


@dataclass(frozen=True)
class ReleasesWanted:
    """What is None may be anything. Times are UTC seconds: from `since` on, and before `until`."""

    recipe: str | None = None
    digest: str | None = None
    requester: str | None = None
    since: float | None = None
    until: float | None = None
    package: PackageWanted | None = None
    finding: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a page ends: the next begins after this release."""

    released_at: float
    build_id: str


@dataclass(frozen=True)
class Recorded:
    """A release, and the record of it in the ledger."""

    release: Release
    number: int
    digest: str

    @property
    def place(self) -> Place:
        return Place(self.release.released_at, self.release.build_id)


def page(session: Session, wanted: ReleasesWanted, *, after: Place | None, limit: int) -> list[Recorded]:
    order = (Release.released_at.desc(), Release.build_id.desc())
    query = (
        select(Release, Record.number, Record.digest)
        .join(Record, Record.build_id == Release.build_id)
        .where(*_conditions(wanted))
        .order_by(*order)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(Release.released_at, Release.build_id) < (after.released_at, after.build_id))
    return [Recorded(*row) for row in session.execute(query)]


def every(database: Database, wanted: ReleasesWanted) -> Iterator[Recorded]:
    """All of them, a page in memory at a time. Each is read in a transaction of its own, which has ended before any of
    it is handed out: whoever takes them may stall."""
    after: Place | None = None
    while True:
        with database.read() as session:
            found = page(session, wanted, after=after, limit=_PAGE)
        yield from found
        if len(found) < _PAGE:
            return
        after = found[-1].place


def _conditions(wanted: ReleasesWanted) -> list[ColumnElement[bool]]:
    pairs = (
        (Release.recipe_name, wanted.recipe),
        (Release.digest, wanted.digest),
        (Release.requester, wanted.requester),
    )
    found = [column == value for column, value in pairs if value is not None]
    if wanted.since is not None:
        found.append(Release.released_at >= wanted.since)
    if wanted.until is not None:
        found.append(Release.released_at < wanted.until)
    if wanted.package is not None:
        found.append(Release.digest.in_(images_with(wanted.package)))
    if wanted.finding is not None:
        found.append(Release.digest.in_(select(Finding.image_digest).where(Finding.vulnerability == wanted.finding)))
    return found
