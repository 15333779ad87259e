"""What stands in a Sigstore bundle, read without believing it."""

from __future__ import annotations

import base64
import json
from typing import Any

from builder.errors import Rejected


class BundleUnreadable(Rejected):
    slug = "bundle-unreadable"
    title = "A bundle of signed provenance cannot be read"


def read_bundle(content: bytes) -> Any:
    """The bundle's JSON. Raises BundleUnreadable."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleUnreadable("the bundle is not JSON") from error


def decoded_statement(bundle: Any) -> Any:
    """The payload of the envelope. Raises BundleUnreadable."""
    try:
        return json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleUnreadable("the bundle has no DSSE envelope that can be read") from error


def told_predicate_type(content: bytes) -> str | None:
    """What kind of statement a bundle says it holds; None if it cannot be read."""
    try:
        statement = decoded_statement(read_bundle(content))
    except BundleUnreadable:
        return None
    told = statement.get("predicateType") if isinstance(statement, dict) else None
    return told if isinstance(told, str) else None
