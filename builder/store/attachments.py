"""What a build made beside the image: bytes kept once by digest, found by build and kind."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from builder.store.schema import Attachment, Blob, Build, Release
from builder.store.states import FINAL


class Kind(StrEnum):
    PROVENANCE = "provenance"
    INVENTORY = "inventory"
    CYCLONEDX = "sbom-cyclonedx"
    SPDX = "sbom-spdx"
    SCAN = "scan"
    SARIF = "scan-sarif"
    SCAN_ATTESTATION = "scan-attestation"
    VERDICT = "verdict"
    SIGNATURE = "signature"
    TESTS = "tests"
    SBOM_ATTESTATION = "sbom-attestation"
    REFERENCES = "references"
    LOG = "log"
    REPRODUCTION = "reproduction"
    FACTS = "facts"
    COMPARISON = "comparison"


def put_blob(session: Session, content: bytes) -> str:
    """Keep bytes; the same bytes are kept once."""
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    # Another build may keep the same bytes at the same moment.
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.execute(insert(Blob).values(digest=digest, content=content).on_conflict_do_nothing())
    return digest


def attach(session: Session, build_id: str, kind: Kind, media_type: str, content: bytes) -> str:
    """Attach bytes to a build under a kind; a stage that runs again replaces what it attached before."""
    digest = put_blob(session, content)
    existing = find(session, build_id, kind)
    if existing is None:
        session.add(Attachment(build_id=build_id, kind=kind, media_type=media_type, blob_digest=digest))
    else:
        existing.media_type, existing.blob_digest, existing.referrer_digest = media_type, digest, None
    session.flush()
    return digest


def find(session: Session, build_id: str, kind: Kind) -> Attachment | None:
    return session.scalars(
        select(Attachment).where(Attachment.build_id == build_id, Attachment.kind == kind)
    ).one_or_none()


def content(session: Session, attachment: Attachment) -> bytes:
    blob = session.get(Blob, attachment.blob_digest)
    assert blob is not None, "a foreign key holds this"
    return blob.content


def of_image(session: Session, digest: str, kind: Kind) -> Attachment | None:
    """The attachment of the newest release of an image."""
    return session.scalars(
        select(Attachment)
        .join(Release, Release.build_id == Attachment.build_id)
        .where(Release.digest == digest, Attachment.kind == kind)
        .order_by(Release.released_at.desc())
        .limit(1)
    ).one_or_none()


def signed_of_image(session: Session, digest: str, kinds: Sequence[Kind]) -> list[Attachment]:
    """Of every release of an image and of every rebuild of it, the newest first."""
    return list(
        session.scalars(
            select(Attachment)
            .join(Build, Build.id == Attachment.build_id)
            .outerjoin(Release, Release.build_id == Attachment.build_id)
            .where(
                or_(Release.digest == digest, Build.subject == digest),
                Attachment.kind.in_(kinds),
            )
            .order_by(Build.created_at.desc(), Attachment.id)
        )
    )


def referrers_of_nobody_else(session: Session, build: Build) -> set[str]:
    """What this build has attached to its image, and no other build of that image that goes on or was released."""
    others = (
        select(Build.id)
        .outerjoin(Release, Release.build_id == Build.id)
        .where(Build.image_digest == build.image_digest, Build.id != build.id)
        .where(or_(Build.state.not_in(FINAL), Release.build_id.is_not(None)))
    )
    query = select(Attachment.referrer_digest).where(Attachment.referrer_digest.is_not(None))
    own = set(session.scalars(query.where(Attachment.build_id == build.id)))
    theirs = set(session.scalars(query.where(Attachment.build_id.in_(others)))) if own else set()
    return {digest for digest in own - theirs if digest is not None}


def set_referrers(session: Session, build_id: str, referrers: dict[str, str]) -> None:
    """Note under which digest the registry has each attachment."""
    for kind, digest in referrers.items():
        found = find(session, build_id, Kind(kind))
        assert found is not None, "only what is attached is published"
        found.referrer_digest = digest
