"""The tables about who calls the API, and what they did there."""

from __future__ import annotations

from sqlalchemy import JSON, Float, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from builder.store.schema import Base


class ApiKey(Base):
    """Who may call the API, and for what. Only a hash of the key is kept. `recipes` are patterns of the
    only ones it may build, null is any; `team` shares a limit of running builds, null is a team of its own;
    `last_used_at` is right to a minute."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    recipes: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    team: Mapped[str | None] = mapped_column(String(63))
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float | None] = mapped_column(Float)
    last_used_at: Mapped[float | None] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)


class AuditEntry(Base):
    """An answer that was given. The database refuses to change or remove one. `caller` is the key's name, and like
    `key_id` null for a stranger; `action` is method and route template; `subject` is what the path names, and what
    the action made."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float)
    key_id: Mapped[str | None] = mapped_column(String(32))
    caller: Mapped[str | None] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(200))
    subject: Mapped[str] = mapped_column(String(200))
    status: Mapped[int] = mapped_column(Integer)
    request_id: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (Index("ix_audit_caller", "caller", "id"),)
