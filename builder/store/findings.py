"""What scans of released images found: first seen, last seen, gone, and whether the policy would allow it now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from builder.errors import Problem
from builder.store.schema import Attachment, Finding, Release, Rescan

_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Seen:
    """One vulnerability as a scan sees it. `exception` is the id of the one that holds for it."""

    vulnerability: str
    package: str
    installed: str
    fixed: str | None
    severity: str
    purl: str | None
    above_policy: bool
    exception: str | None = None

    @property
    def key(self) -> _Key:
        return self.vulnerability, self.package, self.installed


@dataclass(frozen=True)
class Stored:
    """A released image whose bill of materials can be scanned: its newest release, and where that document is."""

    digest: str
    build_id: str
    recipe_name: str
    repository: str
    released_at: float
    sbom_digest: str
    judged_by: str | None


@dataclass(frozen=True)
class Wanted:
    """Which findings a caller asks for; what is None may be anything. `new`: since the release, and still there."""

    new: bool | None = None
    above_policy: bool | None = None
    recipe: str | None = None
    digest: str | None = None
    severity: str | None = None
    vulnerability: str | None = None


def stored_images(session: Session, registry: str, kind: str) -> list[Stored]:
    """Every image that was released in this registry, by its newest release, the longest unscanned first."""
    newest = (
        select(Release.digest, func.max(Release.released_at).label("at"))
        .where(Release.registry_host == registry)
        .group_by(Release.digest)
        .subquery()
    )
    rows = session.execute(
        select(Release, Attachment.blob_digest, Rescan.judged_by)
        .join(newest, (newest.c.digest == Release.digest) & (newest.c.at == Release.released_at))
        .join(Attachment, (Attachment.build_id == Release.build_id) & (Attachment.kind == kind))
        .outerjoin(Rescan, Rescan.image_digest == Release.digest)
        .where(Release.registry_host == registry)
        .order_by(Rescan.scanned_at)
    )
    found: dict[str, Stored] = {}
    for release, sbom, judged_by in rows:
        found[release.digest] = Stored(
            digest=release.digest, build_id=release.build_id, recipe_name=release.recipe_name,
            repository=release.repository, released_at=release.released_at, sbom_digest=sbom, judged_by=judged_by,
        )  # fmt: skip
    return list(found.values())


def note(
    session: Session, image: Stored, seen: Sequence[Seen], at_release: frozenset[_Key], database_digest: str
) -> list[Finding]:
    """Write down what a scan saw. Answers what is above the policy and was not before: whom it concerns must be told.

    `at_release` are the keys of what the release's own scan had found.
    """
    now = time.time()
    before = {
        (row.vulnerability, row.package, row.installed): row
        for row in session.scalars(select(Finding).where(Finding.image_digest == image.digest))
    }
    risen: list[Finding] = []
    unique = {one.key: one for one in seen}
    for key, one in unique.items():
        row = before.get(key)
        known = row is not None and row.gone_at is None and row.above_policy
        if row is None:
            then = key in at_release
            row = Finding(
                image_digest=image.digest, recipe_name=image.recipe_name, vulnerability=one.vulnerability,
                package=one.package, installed=one.installed, since_release=not then,
                first_seen=image.released_at if then else now,
            )  # fmt: skip
            session.add(row)
        row.fixed, row.severity, row.purl = one.fixed, one.severity, one.purl
        row.above_policy, row.exception = one.above_policy, one.exception
        row.last_seen, row.gone_at, row.database_digest = now, None, database_digest
        if one.above_policy and not known:
            risen.append(row)
    for key, row in before.items():
        if key not in unique and row.gone_at is None:
            row.gone_at, row.above_policy = now, False
    session.flush()
    return risen


def mark_scanned(session: Session, digest: str, database_digest: str, judged_by: str, *, passed: bool) -> None:
    session.merge(
        Rescan(
            image_digest=digest, scanned_at=time.time(), database_digest=database_digest, judged_by=judged_by,
            passed=passed, problem=None,
        )
    )  # fmt: skip


def mark_failed(session: Session, digest: str, problem: Problem) -> None:
    """The newest scan came to nothing; what the one before found stays, and says of when it is."""
    found = session.get(Rescan, digest) or Rescan(image_digest=digest)
    found.problem, found.judged_by = problem.model_dump(mode="json"), None
    session.add(found)


def rescan_of(session: Session, digest: str) -> Rescan | None:
    return session.get(Rescan, digest)


def counts_above(session: Session, digest: str) -> tuple[int, int]:
    """How many findings in an image are above the policy, and how many of them have come since its release."""
    above = select(func.count()).where(
        Finding.image_digest == digest, Finding.above_policy.is_(True), Finding.gone_at.is_(None)
    )
    return session.scalar(above) or 0, session.scalar(above.where(Finding.since_release.is_(True))) or 0


def page(session: Session, wanted: Wanted, *, before: int | None, limit: int) -> list[Finding]:
    """The newest first. What is gone is listed only when nobody asks for the new or for what is above the policy."""
    query = select(Finding).where(*_conditions(wanted)).order_by(Finding.id.desc()).limit(limit)
    return list(session.scalars(query if before is None else query.where(Finding.id < before)))


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.new is not None:
        found.append(Finding.since_release.is_(wanted.new))
    if wanted.above_policy is not None:
        found.append(Finding.above_policy.is_(wanted.above_policy))
    if wanted.new or wanted.above_policy:
        found.append(Finding.gone_at.is_(None))
    pairs = (
        (Finding.recipe_name, wanted.recipe),
        (Finding.image_digest, wanted.digest),
        (Finding.severity, wanted.severity),
        (Finding.vulnerability, wanted.vulnerability),
    )
    return found + [column == value for column, value in pairs if value is not None]
