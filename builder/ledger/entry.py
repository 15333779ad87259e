"""What the tree is made of: for each record a short canonical document (RFC 8785) that names it by digest.

Records themselves are no leaves: they may be longer than the 65535 bytes that an entry bundle can tell, and who audits
the log need not read every recipe.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from builder.errors import Rejected
from builder.image.digests import Digest

FORMAT: Final = "goldsmith-ledger-entry/v1"


class EntryInvalid(Rejected):
    slug = "ledger-entry-invalid"
    title = "An entry of the ledger is not of its form"


class LedgerEntry(BaseModel):
    """`recorded_at` is when the record was written, in UTC with microseconds: `2025-03-01T12:00:00.000000Z`."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    format: Literal["goldsmith-ledger-entry/v1"] = FORMAT
    build_id: str
    image_digest: Digest
    record_digest: Digest
    record_format: str
    recorded_at: str

    def canonical(self) -> bytes:
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True))


def entry_bytes(build_id: str, image_digest: str, record_digest: str, record_format: str, recorded_at: float) -> bytes:
    """The entry of a record; `recorded_at` in UTC seconds. The same as a model's, without the cost of making one."""
    time = datetime.fromtimestamp(recorded_at, UTC)
    return rfc8785.dumps(
        {
            "buildId": build_id,
            "format": FORMAT,
            "imageDigest": image_digest,
            "recordDigest": record_digest,
            "recordFormat": record_format,
            "recordedAt": time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
    )


def parse_entry(content: bytes) -> LedgerEntry:
    """Raises EntryInvalid."""
    try:
        entry = LedgerEntry.model_validate_json(content)
    except ValidationError as error:
        raise EntryInvalid(f"an entry of the ledger is no {FORMAT}: {content[:120]!r}") from error
    if entry.canonical() != content:
        raise EntryInvalid(f"an entry of the ledger is not in its one canonical form: {content[:120]!r}")
    return entry
