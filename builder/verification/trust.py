"""Whom to trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot

    from builder.ledger.note import VerifierKey


@dataclass(frozen=True)
class Signatory:
    """Who signed, as the certificate says, and which OIDC issuer vouched for that."""

    identity: str
    issuer: str


@dataclass(frozen=True)
class Trusted:
    """A trusted root, and whose signatures to accept: of `identity` and `issuer`, or of one of `also`.

    `from_server`: the server that is checked gave them itself. `rebuilder` is whom to believe a reproduction, of the
    same issuer; `reproduced`: there must be one. `ledger_keys` sign the ledger's checkpoints; `recorded`: it must have
    the release.
    """

    root: TrustedRoot
    identity: str
    issuer: str
    source: str
    from_server: bool
    rebuilder: str | None = None
    reproduced: bool = False
    also: tuple[Signatory, ...] = ()
    ledger_keys: tuple[VerifierKey, ...] = ()
    recorded: bool = False

    @property
    def signatories(self) -> tuple[Signatory, ...]:
        return (Signatory(self.identity, self.issuer), *self.also)
