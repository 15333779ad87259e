"""What is needed to verify an image, wherever it comes from. None of it is believed yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Bundles:
    """Bundles as they were found; `unreadable` says why others could not even be read."""

    found: tuple[bytes, ...]
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class LedgerEvidence:
    """The release's `record`, the `entry` of the ledger that names it, and the `proof` (C2SP tlog-proof) of that."""

    record: bytes
    entry: bytes
    proof: bytes


class Evidence(Protocol):
    """`digest` is the image's; `manifest_from` is who gave the manifest that it was computed from, if one did."""

    @property
    def image(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def manifest_from(self) -> str | None: ...
    def bundles(self) -> Bundles: ...
    def ledger(self) -> LedgerEvidence | None:
        """None where it is not at hand."""

    def documents(self) -> dict[str, str]:
        """Digests of what came with the bundles, by the name that the provenance has for each."""
