"""Whether the ledger has the release: the record names what was signed, an entry the record, a checkpoint the entry."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from builder.errors import Rejected
from builder.image.digests import digest_of
from builder.ledger.entry import parse_entry
from builder.ledger.note import VerifierKey
from builder.ledger.proof import parse_proof
from builder.verification.check import Check
from builder.verification.evidence import LedgerEvidence

NAME = "ledger inclusion"


def recorded(
    found: LedgerEvidence | None, digest: str, provenance: Collection[str], keys: Sequence[VerifierKey]
) -> Check:
    """`provenance` are the digests of the bundles whose provenance verified; the record must name one of them."""
    if not keys:
        return Check(NAME, False, "no key says whose ledger it must be in")
    if found is None:
        return Check(NAME, False, "no proof is at hand: name the image's archive, or its digest alone to ask the API")
    try:
        proof = parse_proof(found.proof)
        opened = proof.verify(found.entry, keys)
        entry = parse_entry(found.entry)
    except Rejected as error:
        return Check(NAME, False, error.detail)
    if entry.image_digest != digest:
        return Check(NAME, False, f"entry {proof.index} is about {entry.image_digest}")
    if entry.record_digest != digest_of(found.record):
        return Check(NAME, False, f"entry {proof.index} names the record {entry.record_digest}, not the one at hand")
    if not _named_bundles(found.record) & set(provenance):
        return Check(NAME, False, f"the record of entry {proof.index} does not name the provenance that verifies")
    checkpoint = opened.checkpoint
    return Check(NAME, True, f"entry {proof.index} of {checkpoint.size} in {checkpoint.origin}, {entry.recorded_at}")


def _named_bundles(record: bytes) -> set[str]:
    """The attestations that the record says were published. What it says is believed: the ledger has its digest."""
    try:
        told: Any = json.loads(record)
    except (ValueError, RecursionError):
        return set()
    bundles = told.get("bundles") if isinstance(told, dict) else None
    return {one for one in bundles.values() if isinstance(one, str)} if isinstance(bundles, dict) else set()
