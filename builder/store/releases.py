"""Releases: which images were released where, and which of them a tag belongs to."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from builder.store.schema import Record, Release

# Which release is newer, the ledger says: a clock may have been set back.
_number = func.coalesce(Record.number, 0)


def is_released(session: Session, repository: str, digest: str) -> bool:
    """Whether an image was released in a repository."""
    query = select(Release.build_id).where(Release.repository == repository, Release.digest == digest).limit(1)
    return session.scalars(query).first() is not None


def of_build(session: Session, build_id: str) -> Release | None:
    return session.get(Release, build_id)


def of_image(session: Session, digest: str, registry: str, repository: str | None = None) -> Release | None:
    """The newest release of an image in a registry, or in one repository of it."""
    query = select(Release).where(Release.digest == digest, Release.registry_host == registry)
    if repository is not None:
        query = query.where(Release.repository == repository)
    return session.scalars(query.order_by(Release.released_at.desc()).limit(1)).first()


def of_key(session: Session, build_key: str, registry: str) -> Release | None:
    """The newest release in a registry of exactly these inputs."""
    query = select(Release).where(Release.build_key == build_key, Release.registry_host == registry)
    return session.scalars(query.order_by(Release.released_at.desc()).limit(1)).first()


def newer_tags(session: Session, release: Release) -> set[str]:
    """The tags that a newer release in the same repository has: they are not to be moved back."""
    own = session.scalar(select(Record.number).where(Record.build_id == release.build_id)) or 0
    query = (
        select(Release)
        .outerjoin(Record, Record.build_id == Release.build_id)
        .where(
            Release.registry_host == release.registry_host,
            Release.repository == release.repository,
            or_(_number > own, and_(_number == own, Release.released_at > release.released_at)),
        )
    )
    return {tag for newer in session.scalars(query) for tag in newer.tags}


def tagged(session: Session, registry: str, repository: str, tags: Collection[str]) -> dict[str, str]:
    """The digest that each tag belongs to: of the newest release in the repository that asked for it."""
    query = (
        select(Release.digest, Release.tags)
        .join(Record, Record.build_id == Release.build_id)
        .where(Release.registry_host == registry, Release.repository == repository)
        .order_by(Record.number.desc())
        .execution_options(yield_per=50)
    )
    found: dict[str, str] = {}
    for digest, its in session.execute(query):
        for tag in its:
            if tag in tags:
                found.setdefault(tag, digest)
        if len(found) == len(tags):
            break
    return found
