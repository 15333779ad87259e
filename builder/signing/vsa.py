"""SLSA Verification Summary v1: whose policy the subject was held against, and that it passed.

Field names and rules follow the SLSA specification, "Verification Summary Attestation". Goldsmith's gate judges an
image, not the build platform: the build level is said to be unevaluated. What it judged were facts and no attestations,
so `inputAttestations` is left out.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from builder.signing.slsa import ResourceDescriptor, Timestamp
from builder.signing.statement import VERIFICATION_SUMMARY, Statement, Subject

UNEVALUATED: Final = "SLSA_BUILD_LEVEL_UNEVALUATED"


class _Element(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class SummaryVerifier(_Element):
    id: str = Field(min_length=1)


class VerificationSummary(_Element):
    """The predicate of type `https://slsa.dev/verification_summary/v1`. There is one only for what passed."""

    verifier: SummaryVerifier
    time_verified: Timestamp
    resource_uri: str = Field(min_length=1)
    policy: ResourceDescriptor
    verification_result: Literal["PASSED"] = "PASSED"
    verified_levels: tuple[str, ...] = (UNEVALUATED,)
    slsa_version: str = "1.0"

    def predicate(self) -> dict[str, JsonValue]:
        """As JSON, in the specification's names."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def statement(self, *subjects: Subject) -> Statement:
        return Statement(subject=subjects, predicateType=VERIFICATION_SUMMARY, predicate=self.predicate())
