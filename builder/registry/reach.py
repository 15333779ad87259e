"""Whom a registry that only a recipe or a request names may make us speak to: hosts on the internet.

Its name, its redirects, the realm it gives for tokens, and whatever these names come to mean, are somebody else's
word. So looked at is the address that a connection was made to, before a byte is sent. No name is resolved twice.
"""

from __future__ import annotations

from typing import Any

from builder.addresses import is_public
from builder.registry.access import Access
from builder.registry.errors import RegistryRefused


def guarded(access: Access, registry: str) -> dict[str, Any]:
    """What to give httpx as a request's extensions. A refused connection raises RegistryRefused out of the request."""
    if access.inner is None or registry in access.inner:
        return {}

    def look(event: str, info: dict[str, Any]) -> None:
        if event != "connection.connect_tcp.complete":
            return
        stream = info["return_value"]
        address = str(stream.get_extra_info("server_addr")[0]).partition("%")[0]
        if not is_public(address):
            stream.close()
            raise RegistryRefused(
                f"{registry} leads to {address}, no public address",
                hint="an operator names registries inside: GOLDSMITH_PRIVATE_REGISTRIES",
            )

    return {"trace": look}
