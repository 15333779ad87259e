"""Notices to a webhook: written with what they tell of, delivered at least once, signed as Standard Webhooks say.

A webhook's address is an operator's, but a name can come to mean another host. So it is looked up once, every address
must be a public one, and the connection goes to the address that was looked at.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from sqlalchemy.orm import Session

from builder import __version__
from builder.addresses import addresses_of, is_public
from builder.errors import GoldsmithError, Rejected, SettingsInvalid, Unavailable
from builder.pipeline.services import Services
from builder.private import refuse_open
from builder.store import webhooks
from builder.store.errands import Taken
from builder.store.findings import Stored
from builder.store.schema import Finding
from builder.store.webhooks import Delivery, DeliveryState, Event, Webhook, WebhookEnded

_SECONDS = 10.0
_MOST_FINDINGS = 100


class WebhookRefused(Rejected):
    slug = "webhook-refused"
    title = "No notices may be sent to this address"


class WebhookUnavailable(Unavailable):
    """The notice is kept and tried again, after ten seconds at first, then twice as long each time, up to an hour."""

    slug = "webhook-unavailable"
    title = "The webhook did not take the notice"


def announce_risen(session: Session, registry: str, image: Stored, risen: Sequence[Finding]) -> None:
    """Have it told that findings of a released image have risen above the policy."""
    data = {
        "image": f"{registry}/{image.repository}@{image.digest}",
        "digest": image.digest,
        "recipe": image.recipe_name,
        "build": image.build_id,
        "total": len(risen),
        "findings": [
            {
                "vulnerability": one.vulnerability, "package": one.package, "installed": one.installed,
                "fixed": one.fixed, "severity": one.severity, "sinceRelease": one.since_release,
            }
            for one in risen[:_MOST_FINDINGS]
        ],
    }  # fmt: skip
    webhooks.announce(session, Event.FINDINGS_RISEN, data)


def deliver(services: Services, taken: Taken) -> None:
    """Send one notice, and write down what came of it. To a webhook that has ended none is sent.

    Raises WebhookUnavailable, WebhookRefused, WebhookEnded, or SettingsInvalid for a secret that cannot be used.
    """
    number = int(taken.subject)
    with services.database.read() as session:
        notice = session.get(Delivery, number)
        if notice is None:
            return
        webhook = webhooks.get(session, notice.webhook_id)
    status: int | None = None
    try:
        if webhook.ended is not None:
            raise WebhookEnded(f"the webhook {webhook.id} is {webhook.ended}")
        status = _send(services, webhook, notice)
        if status == HTTPStatus.GONE:
            raise WebhookEnded(f"{httpx.URL(webhook.url).host} answered 410: it wants nothing more")
        if not 200 <= status < 300:
            raise WebhookUnavailable(f"{httpx.URL(webhook.url).host} answered {status}")
    except GoldsmithError as error:
        state = DeliveryState.PENDING if error.retryable else DeliveryState.FAILED
        with services.database.write() as session:
            webhooks.tried(session, number, state, status, error.problem())
            if status == HTTPStatus.GONE:
                webhooks.gone(session, webhook.id)
        raise
    with services.database.write() as session:
        webhooks.tried(session, number, DeliveryState.DELIVERED, status, None)


def give_up(services: Services, taken: Taken, error: GoldsmithError) -> None:
    """The last try has failed, too."""
    with services.database.write() as session:
        webhooks.failed(session, int(taken.subject), error.problem())


def check_address(text: str, *, private: bool) -> None:
    """Whether notices may be sent there. Raises WebhookRefused, or WebhookUnavailable while its name has no address."""
    _checked(text, private=private)


def check_secret(path: Path) -> None:
    """Whether the file has a secret that notices can be signed with. Raises SettingsInvalid."""
    _secret(path)


def _send(services: Services, webhook: Webhook, notice: Delivery) -> int:
    """The status that the webhook answers with. Raises WebhookUnavailable, WebhookRefused or SettingsInvalid."""
    url, address = _checked(webhook.url, private=services.settings.webhook_private)
    content = notice.body.encode()
    at = str(int(time.time()))
    signature = _signature(_secret_of(services, webhook), notice.message_id, at, content)
    host = url.host if url.port is None else f"{url.host}:{url.port}"
    request = httpx.Request(
        "POST",
        url.copy_with(host=address),
        content=content,
        headers={
            "Host": host, "Content-Type": "application/json", "User-Agent": f"goldsmith/{__version__}",
            "webhook-id": notice.message_id, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}",
        },
        # The certificate must be the name's, though the connection goes to the address.
        extensions={"sni_hostname": url.host},
    )  # fmt: skip
    try:
        return asyncio.run(_answered(request))
    except TimeoutError as error:
        raise WebhookUnavailable(f"{host} has not answered within {_SECONDS:g} seconds") from error
    except httpx.HTTPError as error:
        raise WebhookUnavailable(f"{host} cannot be reached: {type(error).__name__}") from error


async def _answered(request: httpx.Request) -> int:
    """The answer's status. The client's own time limits are for each read: a byte now and then would pass them."""
    async with (
        asyncio.timeout(_SECONDS),
        httpx.AsyncClient(timeout=None, trust_env=False, follow_redirects=False) as client,  # noqa: S113
    ):
        answer = await client.send(request, stream=True)
        await answer.aclose()
        return answer.status_code


def _secret_of(services: Services, webhook: Webhook) -> bytes:
    if webhook.secret is not None:
        return base64.b64decode(webhook.secret.removeprefix("whsec_"))
    if services.settings.webhook_secret_file is None:
        raise SettingsInvalid("GOLDSMITH_WEBHOOK_SECRET_FILE: the webhook of the settings has no secret")
    return _secret(services.settings.webhook_secret_file)


def _signature(secret: bytes, message_id: str, at: str, content: bytes) -> str:
    signed = b".".join((message_id.encode(), at.encode(), content))
    return base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _secret(path: Path) -> bytes:
    hint = "`whsec_` and the base64 of 24 to 64 bytes"
    try:
        refuse_open(path, "GOLDSMITH_WEBHOOK_SECRET_FILE")
        found = base64.b64decode(path.read_text("ascii").strip().removeprefix("whsec_"), validate=True)
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise SettingsInvalid(f"GOLDSMITH_WEBHOOK_SECRET_FILE: {path} holds no secret", hint=hint) from error
    if not 24 <= len(found) <= 64:
        raise SettingsInvalid(f"GOLDSMITH_WEBHOOK_SECRET_FILE: {path} holds {len(found)} bytes", hint=hint)
    return found


def _checked(text: str, *, private: bool) -> tuple[httpx.URL, str]:
    """The URL, and the address to connect to. Raises WebhookRefused, or WebhookUnavailable while it has none."""
    try:
        url = httpx.URL(text)
        told = urlsplit(text)
        port = told.port or (443 if url.scheme == "https" else 80)
    except (ValueError, httpx.InvalidURL) as error:
        raise WebhookRefused("the webhook's address is no URL", hint="write https://HOST/PATH") from error
    if url.scheme not in ("https", "http") or not url.host or url.userinfo or told.fragment:
        raise WebhookRefused("a webhook's address is https://HOST/PATH, without a user or a fragment")
    if url.scheme == "http" and not private:
        raise WebhookRefused(
            "a webhook over plain HTTP is not allowed here", hint="use https; GOLDSMITH_WEBHOOK_PRIVATE allows both"
        )
    try:
        addresses = addresses_of(url.host, port)
    except OSError as error:
        raise WebhookUnavailable(f"{url.host} has no address now") from error
    refused = [one for one in addresses if not private and not is_public(one)]
    if refused:
        raise WebhookRefused(
            f"{url.host} is at {refused[0]}, which is no public address",
            hint="GOLDSMITH_WEBHOOK_PRIVATE allows private ones",
        )
    return url, addresses[0]
