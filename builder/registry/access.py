"""How registries may be reached: with which credentials, over which transport, within which time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from builder.registry.credentials import CredentialSource, NoCredentials
from builder.registry.reference import is_loopback


@dataclass(frozen=True)
class Access:
    """`insecure` names registries (HOST[:PORT]) spoken to over plain http; loopback ones always are.

    `inner` are the registries that may be at, or lead to, private addresses; None lets all. `trusted_realms` are hosts
    beside the registry itself that may see its credentials in exchange for a token. `ca_file` holds certificate
    authorities in place of the system's. `patience` is how long one answer may take in seconds, `transfer_seconds` how
    long one blob may; `attempts` counts the first one too.
    """

    credentials: CredentialSource = field(default_factory=NoCredentials)
    insecure: frozenset[str] = frozenset()
    inner: frozenset[str] | None = None
    trusted_realms: frozenset[str] = frozenset()
    ca_file: Path | None = None
    patience: float = 60.0
    transfer_seconds: float = 3600.0
    attempts: int = 4

    def base_url(self, registry: str) -> str:
        plain = registry in self.insecure or is_loopback(registry)
        return f"{'http' if plain else 'https'}://{registry}"
