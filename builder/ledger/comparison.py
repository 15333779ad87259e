"""A comparison's record: what was held against which golden image, by whom, when, and what it came to."""

from __future__ import annotations

from typing import Any

from builder.ledger.record import LedgerRecord

FORMAT = "goldsmith-comparison-record/v1"


class ComparisonRecord(LedgerRecord):
    """`image_digest` is the golden image's; `subject` has kind, digest and name; `rules` is the digest of a rules file
    that came before the shipped rules. Times are UTC seconds. The report itself is kept under its digest."""

    format: str = FORMAT
    inventory_digest: str
    subject: dict[str, Any]
    requester: str
    requested: float
    started: float
    finished: float
    recorded: float
    verdict: str
    complete: bool
    totals: dict[str, Any]
    rules: str | None
    report_digest: str
