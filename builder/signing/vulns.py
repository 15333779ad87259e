"""The in-toto vulnerability predicate v0.1: what a scanner found in the subject, with which database, and when.

Field names follow the in-toto attestation framework, `spec/predicates/vulns.md`. An empty result says that the scanner
found nothing, not that it did not look.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from builder.signing.slsa import Timestamp
from builder.signing.statement import VULNERABILITIES, Statement, Subject


class _Element(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Score(_Element):
    """How bad it is, by one method: a source's word, or a CVSS score."""

    method: str = Field(min_length=1)
    score: str


class Found(_Element):
    """One vulnerability of one package."""

    id: str = Field(min_length=1)
    severity: tuple[Score, ...] = Field(min_length=1)
    annotations: tuple[dict[str, JsonValue], ...] = ()


class ScannerDatabase(_Element):
    """`version` tells one state of the database from another: Goldsmith states its digest."""

    uri: str | None = None
    version: str | None = None
    last_update: Timestamp


class ScannedBy(_Element):
    uri: str = Field(min_length=1)
    version: str | None = None
    db: ScannerDatabase
    result: tuple[Found, ...]


class ScanTimes(_Element):
    """To the second, in UTC."""

    scan_started_on: Timestamp
    scan_finished_on: Timestamp


class VulnerabilityScan(_Element):
    """The predicate of type `https://in-toto.io/attestation/vulns/v0.1`."""

    scanner: ScannedBy
    metadata: ScanTimes

    def predicate(self) -> dict[str, JsonValue]:
        """As JSON, in the specification's names, without what is not known."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def statement(self, *subjects: Subject) -> Statement:
        return Statement(subject=subjects, predicateType=VULNERABILITIES, predicate=self.predicate())
