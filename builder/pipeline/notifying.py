"""Notices to a webhook: written with what they tell of, delivered at least once, signed as Standard Webhooks say.

A webhook's address is an operator's, but a name can come to mean another host. So it is looked up once, every address
must be a public one, and the connection goes to the address that was looked at.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import secrets
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from sqlalchemy.orm import Session

from builder import __version__
from builder.errors import SettingsInvalid, Unavailable
from builder.pipeline.services import Services
from builder.store import errands
from builder.store.errands import ErrandKind, Taken
from builder.store.findings import Stored
from builder.store.schema import Finding

EVENT = "findings.risen"
_SECONDS = 10.0
_MOST_FINDINGS = 100
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class WebhookUnavailable(Unavailable):
    """The notice is kept and tried again, after ten seconds at first, then twice as long each time, up to an hour."""

    slug = "webhook-unavailable"
    title = "The webhook did not take the notice"


def announce(session: Session, registry: str, image: Stored, risen: Sequence[Finding]) -> None:
    """Have a notice delivered, if the caller's transaction comes true."""
    body = {
        "type": EVENT,
        "timestamp": datetime.now(UTC).isoformat(),
        "data": {
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
        },
    }  # fmt: skip
    errands.add(session, ErrandKind.NOTIFY, f"msg_{secrets.token_hex(16)}", json.dumps(body, separators=(",", ":")))


def deliver(services: Services, taken: Taken) -> None:
    """Send one notice. Without a webhook in the settings it is dropped.

    Raises WebhookUnavailable, or SettingsInvalid for a secret that cannot be used.
    """
    settings = services.settings
    if settings.webhook_url is None or settings.webhook_secret_file is None:
        return
    url, address = _checked(settings.webhook_url, private=settings.webhook_private)
    content = (taken.body or "").encode()
    at = str(int(time.time()))
    signature = _signature(_secret(settings.webhook_secret_file), taken.subject, at, content)
    host = url.host if url.port is None else f"{url.host}:{url.port}"
    try:
        with httpx.Client(timeout=_SECONDS, trust_env=False, follow_redirects=False) as client:
            request = client.build_request(
                "POST",
                url.copy_with(host=address),
                content=content,
                headers={
                    "Host": host, "Content-Type": "application/json", "User-Agent": f"goldsmith/{__version__}",
                    "webhook-id": taken.subject, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}",
                },
                # The certificate must be the name's, though the connection goes to the address.
                extensions={"sni_hostname": url.host},
            )  # fmt: skip
            answer = client.send(request, stream=True)
            answer.close()
    except httpx.HTTPError as error:
        raise WebhookUnavailable(f"{host} cannot be reached: {type(error).__name__}") from error
    if not answer.is_success:
        raise WebhookUnavailable(f"{host} answered {answer.status_code}")


def _signature(secret: bytes, message_id: str, at: str, content: bytes) -> str:
    signed = b".".join((message_id.encode(), at.encode(), content))
    return base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _secret(path: Path) -> bytes:
    hint = "`whsec_` and the base64 of 24 to 64 bytes"
    try:
        found = base64.b64decode(path.read_text("ascii").strip().removeprefix("whsec_"), validate=True)
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise SettingsInvalid(f"GOLDSMITH_WEBHOOK_SECRET_FILE: {path} holds no secret", hint=hint) from error
    if not 24 <= len(found) <= 64:
        raise SettingsInvalid(f"GOLDSMITH_WEBHOOK_SECRET_FILE: {path} holds {len(found)} bytes", hint=hint)
    return found


def _checked(text: str, *, private: bool) -> tuple[httpx.URL, str]:
    """The URL, and the address to connect to. Raises SettingsInvalid or WebhookUnavailable."""
    url = httpx.URL(text)
    if url.scheme not in ("https", "http") or not url.host or url.userinfo or urlsplit(text).fragment:
        raise SettingsInvalid("GOLDSMITH_WEBHOOK_URL must be https://HOST/PATH, without a user or a fragment")
    if url.scheme == "http" and not private:
        raise SettingsInvalid("GOLDSMITH_WEBHOOK_URL: plain HTTP needs GOLDSMITH_WEBHOOK_PRIVATE")
    try:
        found = socket.getaddrinfo(
            url.host, url.port or (443 if url.scheme == "https" else 80), proto=socket.IPPROTO_TCP
        )
    except OSError as error:
        raise WebhookUnavailable(f"{url.host} has no address now") from error
    addresses = [str(one[4][0]).partition("%")[0] for one in found]
    refused = [one for one in addresses if not private and not is_public(one)]
    if refused:
        raise WebhookUnavailable(
            f"{url.host} is at {refused[0]}, which is no public address",
            hint="GOLDSMITH_WEBHOOK_PRIVATE allows private ones",
        )
    return url, addresses[0]


def is_public(text: str) -> bool:
    """Whether an address is anybody's on the internet, the address that is embedded in another one included."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(one is not None and not is_public(str(one)) for one in inner):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
