"""The files of a Trivy database: is this one, of when is it, is it whole, and is it Goldsmith's sample?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from builder.scanning.errors import DatabaseCorrupt
from builder.scanning.sample import bolt

# Any database that holds these bytes is the sample, however it came here.
SAMPLE_MARKER = b"goldsmith-sample-database"
_CLOCK_TOLERANCE = timedelta(hours=1)
_CHUNK = 1 << 20


class Metadata(BaseModel):
    """metadata.json, version 2: when the database was made and when its maker promised the next one."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_pascal)

    version: int = Field(strict=True, ge=2, le=2)
    next_update: AwareDatetime
    updated_at: AwareDatetime


@dataclass(frozen=True)
class Content:
    """`digest` is `sha256:<hex>` of trivy.db."""

    digest: str
    sample: bool


def read_metadata(path: Path, now: datetime) -> Metadata:
    """Raises DatabaseCorrupt, also for a database from the future: it would count as fresh for ever."""
    try:
        metadata = Metadata.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DatabaseCorrupt(f"the database's {path.name} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise DatabaseCorrupt(
            f"the database's {path.name} is not Trivy's, version 2: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None
    if metadata.updated_at > now + _CLOCK_TOLERANCE:
        raise DatabaseCorrupt(
            f"the database says it was made at {metadata.updated_at:%Y-%m-%d %H:%M} UTC, which is yet to come",
            hint="set this machine's clock, or have the database made again",
        )
    return metadata


def read_content(path: Path) -> Content:
    """Hash trivy.db in one pass and look for the sample's marker. Raises DatabaseCorrupt for what Trivy crashes on."""
    digest = hashlib.sha256()
    sample, tail = False, b""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            promised = bolt.size_promised_by(file.read(2 * bolt.LARGEST_PAGE_SIZE))
            file.seek(0)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                window = tail + chunk
                sample = sample or SAMPLE_MARKER in window
                tail = window[-len(SAMPLE_MARKER) + 1 :]
    except OSError as error:
        raise DatabaseCorrupt(f"the database's {path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DatabaseCorrupt(f"the database's {path.name} is not a bbolt file: {error}") from None
    if size < promised:
        raise DatabaseCorrupt(f"the database's {path.name} is cut short: {size} of {promised} bytes")
    return Content(f"sha256:{digest.hexdigest()}", sample)
