"""The tables. Times are UTC seconds since 1970 as floats; documents are JSON text; digests are `sha256:<hex>`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Float, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class ApiKey(Base):
    """Who may call the API. Only a hash of the key is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[float] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)


class Build(Base):
    """One request and all that came of it.

    `purpose` decides the path it takes; `token` grows with every claim and fences off whoever held the build before;
    `attempt` counts how often the work was begun anew because a worker was lost; `base_digest` is of the recipe whose
    release this build starts from; `lock` is the lock to use, as JSON; `subject` is the image that a rebuild or
    comparison is about; `options` are what else was asked for; `image_digest` is of what is in `staging_repository`.
    """

    __tablename__ = "builds"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(10), default="release")
    state: Mapped[str] = mapped_column(String(16))
    recipe_name: Mapped[str] = mapped_column(String(63))
    recipe_digest: Mapped[str] = mapped_column(String(71))
    recipe: Mapped[str] = mapped_column(Text)
    origin: Mapped[str] = mapped_column(String(16))
    requester: Mapped[str] = mapped_column(String(100))
    base_digest: Mapped[str | None] = mapped_column(String(71))
    lock: Mapped[str | None] = mapped_column(Text)
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    subject: Mapped[str | None] = mapped_column(String(71))
    waits_for: Mapped[str | None] = mapped_column(String(26))
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    token: Mapped[int] = mapped_column(Integer, default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None] = mapped_column(Float)
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[float] = mapped_column(Float)
    updated_at: Mapped[float] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    image_digest: Mapped[str | None] = mapped_column(String(71))
    staging_repository: Mapped[str | None] = mapped_column(String(255))
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    evidence: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    __table_args__ = (
        Index("ix_builds_state", "state", "updated_at"),
        Index("ix_builds_recipe", "recipe_name", "created_at"),
        Index("ix_builds_waits_for", "waits_for"),
        Index("ix_builds_image", "image_digest"),
        Index("ix_builds_subject", "subject"),
    )


class Step(Base):
    """A named, timed part of a build."""

    __tablename__ = "steps"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"), index=True)
    attempt: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(10))
    started_at: Mapped[float] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    summary: Mapped[str] = mapped_column(Text, default="")


class LogLine(Base):
    """One line of a build's log. `number` counts from 1 without gaps, so that a follower can resume."""

    __tablename__ = "log_lines"

    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[float] = mapped_column(Float)
    step: Mapped[str] = mapped_column(String(40))
    text: Mapped[str] = mapped_column(Text)


class OutboxRow(Base):
    """A message to a queue, written in the transaction that makes it true and published once it is due."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"))
    queue: Mapped[str] = mapped_column(String(16))
    due_at: Mapped[float] = mapped_column(Float)
    published_at: Mapped[float | None] = mapped_column(Float, index=True)


class Blob(Base):
    """Bytes by their digest: inventories, SBOMs, scan reports, bundles."""

    __tablename__ = "blobs"

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Attachment(Base):
    """What a build made beside the image, by kind: which blob, and under which digest the registry has it."""

    __tablename__ = "attachments"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"))
    kind: Mapped[str] = mapped_column(String(40))
    media_type: Mapped[str] = mapped_column(String(200))
    blob_digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))
    referrer_digest: Mapped[str | None] = mapped_column(String(71))

    __table_args__ = (UniqueConstraint("build_id", "kind"),)


class Release(Base):
    """A released image. One digest can be released more than once; the newest release speaks for it. `build_key` is a
    digest over all that decided the image: a request with the same key needs no build."""

    __tablename__ = "releases"

    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(71), index=True)
    recipe_name: Mapped[str] = mapped_column(String(63))
    recipe_digest: Mapped[str] = mapped_column(String(71))
    registry_host: Mapped[str] = mapped_column(String(255))
    repository: Mapped[str] = mapped_column(String(255))
    tags: Mapped[list[str]] = mapped_column(JSON)
    released_at: Mapped[float] = mapped_column(Float)
    build_key: Mapped[str | None] = mapped_column(String(71), index=True)

    __table_args__ = (Index("ix_releases_recipe", "recipe_name", "released_at"),)


class KnownPackage(Base):
    """A .deb that a signed index of an archive has stated, in this installation's sight."""

    __tablename__ = "known_packages"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[str] = mapped_column(String(200))
    architecture: Mapped[str] = mapped_column(String(200))


class Record(Base):
    """The ledger: one canonical record a release or comparison, only ever appended. `image_digest` is the released or
    golden image's."""

    __tablename__ = "records"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"), unique=True)
    image_digest: Mapped[str] = mapped_column(String(71), index=True)
    digest: Mapped[str] = mapped_column(String(71))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    recorded_at: Mapped[float] = mapped_column(Float)
