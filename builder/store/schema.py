"""The tables. Times are UTC seconds since 1970 as floats; documents are JSON text; digests are `sha256:<hex>`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class Build(Base):
    """One request and all that came of it.

    `purpose` decides the path it takes; `token` grows with every claim and fences off whoever held the build before;
    `attempt` counts how often the work was begun, `retries` say why each time but the first; `base_digest` is of the
    recipe whose release this build starts from; `lock` is the lock to use, as JSON; `subject` is the image that a
    rebuild or comparison is about; `options` are what else was asked for; `identity` says who the requester is, and
    `team` whose limit it counts for, null is its own; `retry_of` is the build that this one does again; `trace` is the
    W3C trace it was asked for in; `image_digest` is of what is in `staging_repository`.
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
    team: Mapped[str | None] = mapped_column(String(63))
    identity: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    base_digest: Mapped[str | None] = mapped_column(String(71))
    lock: Mapped[str | None] = mapped_column(Text)
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    subject: Mapped[str | None] = mapped_column(String(71))
    priority: Mapped[str] = mapped_column(String(6), server_default="normal")
    retry_of: Mapped[str | None] = mapped_column(String(26))
    trace: Mapped[str | None] = mapped_column(String(32))
    waits_for: Mapped[str | None] = mapped_column(String(26))
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    token: Mapped[int] = mapped_column(Integer, default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None] = mapped_column(Float)
    lease_seconds: Mapped[float | None] = mapped_column(Float)
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[float] = mapped_column(Float)
    updated_at: Mapped[float] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    image_digest: Mapped[str | None] = mapped_column(String(71))
    staging_repository: Mapped[str | None] = mapped_column(String(255))
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    retries: Mapped[list[dict[str, Any]]] = mapped_column(JSON, server_default="[]", default=list)
    evidence: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    __table_args__ = (
        Index("ix_builds_state", "state", "updated_at"),
        Index("ix_builds_recipe", "recipe_name", "created_at"),
        Index("ix_builds_recipe_digest", "recipe_digest", "created_at"),
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
    """A message to a queue, written in the transaction that makes it true, sent when it is due, gone once it is taken.
    `rank` is the build's priority, the first first; `sort` says what may hold it back."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"), index=True)
    queue: Mapped[str] = mapped_column(String(16))
    due_at: Mapped[float] = mapped_column(Float)
    published_at: Mapped[float | None] = mapped_column(Float, index=True)
    sort: Mapped[str] = mapped_column(String(8), server_default="go-on")
    rank: Mapped[int] = mapped_column(Integer, server_default="1")
    requester: Mapped[str] = mapped_column(String(100), server_default="")
    team: Mapped[str | None] = mapped_column(String(63))

    __table_args__ = (Index("ix_outbox_next", "queue", "published_at", "rank", "build_id"),)


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
    digest over all that decided the image: a request with the same key needs no build. `requester` asked for it."""

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
    requester: Mapped[str] = mapped_column(String(100), server_default="")

    # Each in the order in which auditors turn the pages.
    __table_args__ = (
        Index("ix_releases_recipe", "recipe_name", "released_at", "build_id"),
        Index("ix_releases_requester", "requester", "released_at", "build_id"),
        Index("ix_releases_released_at", "released_at", "build_id"),
        Index("ix_releases_recipe_digest", "recipe_digest", "released_at"),
    )


class Component(Base):
    """A package, as bills of materials name it. `upstream` is its version without a distribution's epoch and revision;
    `source` is the source package's name, or its own."""

    __tablename__ = "components"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(255))
    version: Mapped[str] = mapped_column(String(255))
    upstream: Mapped[str] = mapped_column(String(255))
    source: Mapped[str] = mapped_column(String(255))
    purl: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("name", "version", "source", "purl"),
        Index("ix_components_source", "source"),
    )


class ImageComponent(Base):
    """Which images have a package."""

    __tablename__ = "image_components"

    component_id: Mapped[int] = mapped_column(ForeignKey("components.id"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("known_images.id"), primary_key=True)


class KnownImage(Base):
    """A released image whose packages are indexed: a short number for a long digest."""

    __tablename__ = "known_images"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(String(71), unique=True)


class Record(Base):
    """The ledger: one canonical record a release or comparison, only ever appended. `image_digest` is the released or
    golden image's."""

    __tablename__ = "records"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"), unique=True)
    image_digest: Mapped[str] = mapped_column(String(71), index=True)
    digest: Mapped[str] = mapped_column(String(71), index=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    recorded_at: Mapped[float] = mapped_column(Float)


class LedgerLeaf(Base):
    """A record's place in the Merkle tree: places count from 0 without gaps. `hash` is the leaf hash of its entry,
    which is made anew from the record whenever it is wanted; `format` is the record's."""

    __tablename__ = "ledger_leaves"

    place: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    record_number: Mapped[int] = mapped_column(ForeignKey("records.number"), unique=True)
    format: Mapped[str] = mapped_column(String(60))
    hash: Mapped[bytes] = mapped_column(LargeBinary, index=True)


class LedgerTile(Base):
    """A complete tile: 256 hashes, which never change again, and the root over them, which is a hash one level up."""

    __tablename__ = "ledger_tiles"

    level: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)
    root: Mapped[bytes] = mapped_column(LargeBinary)


class LedgerHead(Base):
    """The one row that whoever appends holds: so many leaves, and the hashes of the complete subtrees they make."""

    __tablename__ = "ledger_head"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(Integer)
    frontier: Mapped[bytes] = mapped_column(LargeBinary)


class LedgerCheckpoint(Base):
    """A checkpoint that was signed, as its note. It is in the registry, too, once `published_at` is there."""

    __tablename__ = "ledger_checkpoints"

    size: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    note: Mapped[str] = mapped_column(Text)
    signed_at: Mapped[float] = mapped_column(Float)
    published_at: Mapped[float | None] = mapped_column(Float)


class LedgerKey(Base):
    """A verifier key that checkpoints of this ledger were signed with, since when."""

    __tablename__ = "ledger_keys"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    since: Mapped[float] = mapped_column(Float)


class LedgerCosignature(Base):
    """A witness's signature of a checkpoint, as its line of the note: of each witness the newest one."""

    __tablename__ = "ledger_cosignatures"

    size: Mapped[int] = mapped_column(ForeignKey("ledger_checkpoints.size"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    line: Mapped[str] = mapped_column(Text)
    cosigned_at: Mapped[int] = mapped_column(BigInteger)


class Errand(Base):
    """Work that belongs to no build: a document to sign, a round of scans, a notice to deliver. Done at least once.

    `due_at` is the lease, too: whoever takes an errand moves it on, and `tries` fences off whoever had it before.
    """

    __tablename__ = "errands"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(10))
    subject: Mapped[str] = mapped_column(String(71))
    body: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Float)
    due_at: Mapped[float] = mapped_column(Float)
    published_at: Mapped[float | None] = mapped_column(Float)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    done_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON)

    __table_args__ = (Index("ix_errands_due", "done_at", "due_at"),)


class VexDocument(Base):
    """An OpenVEX document and the exceptions that somebody here made of it. They count once `bundle_digest` is there.

    `scope` is the exceptions as canonical JSON; its digest is the subject of the signed statement, so that neither
    owner, expiry nor scope can be changed behind the signature.
    """

    __tablename__ = "vex_documents"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    state: Mapped[str] = mapped_column(String(10))
    scope: Mapped[str] = mapped_column(Text)
    document_digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))
    bundle_digest: Mapped[str | None] = mapped_column(ForeignKey("blobs.digest"))
    requester: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[float] = mapped_column(Float)
    signed_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class ExceptionRow(Base):
    """One exception of a document, to be found by. What counts is read from the signed document, not from here; but
    one that is revoked counts no more."""

    __tablename__ = "exceptions"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    document_id: Mapped[str] = mapped_column(ForeignKey("vex_documents.id"), index=True)
    vulnerability: Mapped[str] = mapped_column(String(64), index=True)
    expires_at: Mapped[float] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)
    revoked_by: Mapped[str | None] = mapped_column(String(100))


class Finding(Base):
    """A vulnerability of a released image, as scans of its bill of materials saw it.

    `above_policy`: the gate would not let the image pass with it now. `since_release`: the release's own scan had not
    found it. `gone_at`: no scan has found it since.
    """

    __tablename__ = "findings"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    image_digest: Mapped[str] = mapped_column(String(71))
    recipe_name: Mapped[str] = mapped_column(String(63))
    vulnerability: Mapped[str] = mapped_column(String(100))
    package: Mapped[str] = mapped_column(String(255))
    installed: Mapped[str] = mapped_column(String(255))
    fixed: Mapped[str | None] = mapped_column(String(255))
    severity: Mapped[str] = mapped_column(String(10))
    purl: Mapped[str | None] = mapped_column(Text)
    first_seen: Mapped[float] = mapped_column(Float)
    last_seen: Mapped[float] = mapped_column(Float)
    gone_at: Mapped[float | None] = mapped_column(Float)
    database_digest: Mapped[str] = mapped_column(String(71))
    above_policy: Mapped[bool] = mapped_column(Boolean)
    since_release: Mapped[bool] = mapped_column(Boolean)
    exception: Mapped[str | None] = mapped_column(String(26))

    __table_args__ = (
        UniqueConstraint("image_digest", "vulnerability", "package", "installed"),
        Index("ix_findings_recipe", "recipe_name"),
        Index("ix_findings_vulnerability", "vulnerability"),
        Index("ix_findings_new", "since_release", "above_policy"),
    )


class Rescan(Base):
    """The newest scan of a released image's bill of materials. `judged_by` is a digest over all that decides what it
    comes to: database, policy and exceptions. `problem` says why the newest try came to nothing."""

    __tablename__ = "rescans"

    image_digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    scanned_at: Mapped[float | None] = mapped_column(Float)
    database_digest: Mapped[str | None] = mapped_column(String(71))
    judged_by: Mapped[str | None] = mapped_column(String(71))
    passed: Mapped[bool | None] = mapped_column(Boolean)
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON)
