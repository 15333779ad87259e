"""Webhooks, what each was sent, and what came of that. A notice is written in the transaction of what it tells of.

Each event has one message; each webhook that wants it has a delivery of its own, which an errand carries.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, String, Text, delete, select, tuple_, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from builder.errors import Problem, Rejected
from builder.store import errands
from builder.store.errands import ErrandKind
from builder.store.schema import Base, Build

# The one that the settings name; its secret is in a file.
CONFIGURED = "configured"


class Event(StrEnum):
    """What a webhook can be told of."""

    BUILD_RELEASED = "build.released"
    BUILD_LOCKED = "build.locked"
    BUILD_PLANNED = "build.planned"
    BUILD_REPRODUCED = "build.reproduced"
    BUILD_COMPARED = "build.compared"
    BUILD_FAILED = "build.failed"
    BUILD_CANCELLED = "build.cancelled"
    FINDINGS_RISEN = "findings.risen"
    EXCEPTION_REVOKED = "exception.revoked"
    KEY_REVOKED = "key.revoked"
    WEBHOOK_TEST = "webhook.test"


# What a webhook may ask for: names, groups of them, or all.
Wanted = Literal[
    "*", "build.*", "build.released", "build.locked", "build.planned", "build.reproduced", "build.compared",
    "build.failed", "build.cancelled", "findings.*", "findings.risen", "exception.*", "exception.revoked", "key.*",
    "key.revoked",
]  # fmt: skip


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Webhook(Base):
    """An address that is told of events. `events` are names, or `build.*`; `secret` is `whsec_…`, in the clear, as each
    notice is signed with it; `ended` says why nothing more is sent: `removed`, or `gone` when the address said so."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[list[str]]
    secret: Mapped[str | None] = mapped_column(String(100))
    description: Mapped[str] = mapped_column(String(200))
    created_by: Mapped[str] = mapped_column(String(400))
    created_at: Mapped[float] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    ended: Mapped[str | None] = mapped_column(String(10))


class Delivery(Base):
    """A message for one webhook. `status` is that of the last answer; `problem` is why the last try did not succeed."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    message_id: Mapped[str] = mapped_column(String(40))
    event: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10))
    tries: Mapped[int] = mapped_column(Integer, default=0)
    status: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[float] = mapped_column(Float)
    tried_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON)

    __table_args__ = (Index("ix_webhook_deliveries_webhook", "webhook_id", "id"),)


class WebhookUnknown(Rejected):
    slug = "webhook-unknown"
    title = "There is no such webhook"
    status = 404


class DeliveryUnknown(Rejected):
    slug = "delivery-unknown"
    title = "The webhook has no such delivery"
    status = 404


class WebhookEnded(Rejected):
    slug = "webhook-ended"
    title = "The webhook was removed, or said that it is gone"
    status = 409


def new_secret() -> str:
    """256 bits, in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def create(session: Session, *, url: str, events: Sequence[str], description: str, created_by: str) -> Webhook:
    made = Webhook(
        id=secrets.token_hex(8), url=url, events=list(events), secret=new_secret(), description=description,
        created_by=created_by, created_at=time.time(),
    )  # fmt: skip
    session.add(made)
    session.flush()
    return made


def configure(session: Session, url: str | None, events: Sequence[str]) -> None:
    """Have the webhook of the settings be as they say, or end it if they name none."""
    found = session.get(Webhook, CONFIGURED)
    if url is None:
        if found is not None:
            _end(found, "removed")
    elif found is None:
        session.add(
            Webhook(
                id=CONFIGURED, url=url, events=list(events), secret=None, description="of the settings",
                created_by="settings", created_at=time.time(),
            )
        )  # fmt: skip
    elif found.url != url or found.ended != "gone":
        # An address that said it is gone stays so.
        found.url, found.events, found.ended, found.ended_at = url, list(events), None, None


def get(session: Session, webhook_id: str, *, live: bool = False) -> Webhook:
    """Raises WebhookUnknown, or WebhookEnded for one that must be `live`."""
    found = session.get(Webhook, webhook_id)
    if found is None:
        raise WebhookUnknown(f"there is no webhook {webhook_id[:40]!r}", hint="`goldsmith webhook list` lists them")
    if live and found.ended is not None:
        raise WebhookEnded(f"the webhook {webhook_id} is {found.ended}", hint="create another")
    return found


def every(session: Session, *, ended: bool = False) -> list[Webhook]:
    """The oldest first."""
    query = select(Webhook).order_by(Webhook.created_at, Webhook.id)
    return list(session.scalars(query if ended else query.where(Webhook.ended.is_(None))))


def page(session: Session, *, ended: bool, before: str | None, limit: int) -> list[Webhook]:
    """The newest first. `before` is a webhook's id. Raises WebhookUnknown."""
    query = select(Webhook).order_by(Webhook.created_at.desc(), Webhook.id.desc()).limit(limit)
    if before is not None:
        place = get(session, before)
        query = query.where(tuple_(Webhook.created_at, Webhook.id) < (place.created_at, place.id))
    return list(session.scalars(query if ended else query.where(Webhook.ended.is_(None))))


def remove(session: Session, webhook_id: str) -> Webhook:
    """Send nothing more. A second time changes nothing. Raises WebhookUnknown."""
    found = get(session, webhook_id)
    _end(found, "removed")
    return found


def announce(session: Session, event: Event, data: dict[str, Any]) -> None:
    """Tell each webhook that wants to know, if the caller's transaction comes true."""
    wanting = [one for one in every(session) if wants(one.events, event)]
    if not wanting:
        return
    message_id = f"msg_{secrets.token_hex(16)}"
    for one in wanting:
        send(session, one, event, data, message_id=message_id)


def announce_end(session: Session, build: Build) -> None:
    """Tell of a build that has ended. Its problem has no secrets: it is what its requester reads."""
    release = build.evidence.get("release") or build.evidence.get("unchanged") or {}
    told = {
        "build": build.id, "purpose": build.purpose, "recipe": build.recipe_name, "requester": build.requester,
        "digest": release.get("digest") or build.subject, "problem": build.problem,
    }  # fmt: skip
    announce(session, Event(f"build.{build.state}"), told)


def wants(patterns: Sequence[str], event: Event) -> bool:
    """Whether an event has one of the names, or is of a group such as `build.*`; `*` is all."""
    group = event.split(".")[0] + ".*"
    return event is Event.WEBHOOK_TEST or not {"*", group, event.value}.isdisjoint(patterns)


def send(
    session: Session, webhook: Webhook, event: Event, data: dict[str, Any], *, message_id: str | None = None
) -> Delivery:
    """A delivery of an event to one webhook."""
    body = {"type": event.value, "timestamp": datetime.now(UTC).isoformat(timespec="seconds"), "data": data}
    message_id = message_id or f"msg_{secrets.token_hex(16)}"
    return _deliver(session, webhook, message_id, event.value, json.dumps(body, separators=(",", ":")))


def replay(session: Session, webhook: Webhook, delivery: Delivery) -> Delivery:
    """The same message once more, under its own id: whoever has taken it knows it."""
    return _deliver(session, webhook, delivery.message_id, delivery.event, delivery.body)


def delivery(session: Session, webhook_id: str, delivery_id: int) -> Delivery:
    """Raises DeliveryUnknown."""
    found = session.get(Delivery, delivery_id) if 0 < delivery_id < 2**31 else None
    if found is None or found.webhook_id != webhook_id:
        raise DeliveryUnknown(f"webhook {webhook_id[:40]} has no delivery {delivery_id}", hint="it may be too long ago")
    return found


def deliveries(
    session: Session, webhook_id: str, *, state: DeliveryState | None = None, before: int | None = None, limit: int = 50
) -> list[Delivery]:
    """The newest first."""
    query = select(Delivery).where(Delivery.webhook_id == webhook_id).order_by(Delivery.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Delivery.state == state)
    if before is not None:
        query = query.where(Delivery.id < before)
    return list(session.scalars(query))


def tried(
    session: Session, delivery_id: int, state: DeliveryState, status: int | None, problem: Problem | None
) -> None:
    """Write down what came of a try."""
    told = problem.model_dump(mode="json") if problem else None
    session.execute(
        update(Delivery)
        .where(Delivery.id == delivery_id)
        .values(state=state, status=status, problem=told, tries=Delivery.tries + 1, tried_at=time.time())
    )


def failed(session: Session, delivery_id: int, problem: Problem) -> None:
    """No more tries."""
    told = problem.model_dump(mode="json")
    session.execute(update(Delivery).where(Delivery.id == delivery_id).values(state=DeliveryState.FAILED, problem=told))


def gone(session: Session, webhook_id: str) -> None:
    """The address answered that it wants nothing more (410)."""
    _end(get(session, webhook_id), "gone")


def forget_old(session: Session, older_than_seconds: float) -> None:
    """Deliveries that have come to an end long ago."""
    old = Delivery.created_at < time.time() - older_than_seconds
    session.execute(delete(Delivery).where(old, Delivery.state != DeliveryState.PENDING))


def _deliver(session: Session, webhook: Webhook, message_id: str, event: str, body: str) -> Delivery:
    made = Delivery(
        webhook_id=webhook.id, message_id=message_id, event=event, body=body, state=DeliveryState.PENDING, tries=0,
        created_at=time.time(),
    )  # fmt: skip
    session.add(made)
    session.flush()
    errands.add(session, ErrandKind.NOTIFY, str(made.id))
    return made


def _end(webhook: Webhook, why: str) -> None:
    if webhook.ended is None:
        webhook.ended, webhook.ended_at = why, time.time()
