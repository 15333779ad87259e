"""Webhooks, as the API has them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from builder.client.api import Client
from builder.client.models import Answer, Page
from builder.errors import Problem


class Webhook(Answer):
    """`secret` is there when it is made, and never again."""

    id: str
    url: str
    events: tuple[str, ...]
    description: str
    created_by: str
    created_at: datetime
    ended: str | None = None
    secret: str | None = None


class WebhookPage(Page):
    webhooks: tuple[Webhook, ...]


class Delivery(Answer):
    """A message for a webhook, and what came of it."""

    id: int
    message: str
    event: str
    state: str
    tries: int
    status: int | None = None
    created_at: datetime
    tried_at: datetime | None = None
    problem: Problem | None = None
    payload: dict[str, Any] | None = None


class DeliveryPage(Page):
    deliveries: tuple[Delivery, ...]


class Webhooks:
    """The routes below `/v1/webhooks`; every method raises what Client's do."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, url: str, events: Sequence[str], description: str = "") -> Webhook:
        asked = {"url": url, "events": list(events), "description": description}
        return self._client.ask(Webhook, "POST", "/v1/webhooks", json=asked)

    def every(self, *, ended: bool = False) -> tuple[Webhook, ...]:
        """The newest first, all pages."""
        pages = self._client.pages(WebhookPage, "/v1/webhooks", {"ended": str(ended).lower(), "limit": "100"})
        return tuple(one for page in pages for one in page.webhooks)

    def remove(self, webhook: str) -> Webhook:
        return self._client.ask(Webhook, "DELETE", f"/v1/webhooks/{_part(webhook)}")

    def try_out(self, webhook: str) -> Delivery:
        return self._client.ask(Delivery, "POST", f"/v1/webhooks/{_part(webhook)}/test")

    def deliveries(self, webhook: str, *, state: str | None = None, limit: int = 20) -> tuple[Delivery, ...]:
        """The newest first, one page."""
        params = {"limit": str(limit)} | ({"state": state} if state else {})
        path = f"/v1/webhooks/{_part(webhook)}/deliveries"
        return self._client.ask(DeliveryPage, "GET", path, params=params).deliveries

    def delivery(self, webhook: str, number: int) -> Delivery:
        return self._client.ask(Delivery, "GET", f"/v1/webhooks/{_part(webhook)}/deliveries/{number}")

    def replay(self, webhook: str, number: int) -> Delivery:
        return self._client.ask(Delivery, "POST", f"/v1/webhooks/{_part(webhook)}/deliveries/{number}/replay")


def _part(text: str) -> str:
    return quote(text, safe="")
