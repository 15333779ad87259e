"""What can be wrong with a ledger, each with its own reason and the first place where it shows."""

from __future__ import annotations

from enum import StrEnum

from builder.errors import Rejected


class Reason(StrEnum):
    RECORD_EDITED = "record-edited"
    RECORD_REMOVED = "record-removed"
    RECORD_INSERTED = "record-inserted"
    RECORDS_REORDERED = "records-reordered"
    LEAF_EDITED = "leaf-edited"
    TILE_EDITED = "tile-edited"
    TILE_MISSING = "tile-missing"
    HEAD_EDITED = "head-edited"
    CHECKPOINT_FORGED = "checkpoint-forged"
    SHORTENED = "ledger-shortened"
    REWRITTEN = "history-rewritten"
    UNREADABLE = "ledger-unreadable"


class LedgerNotIntact(Rejected):
    """The ledger is not what was once appended to it, or not what was once signed."""

    slug = "ledger-not-intact"
    title = "The ledger has been altered"

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
