"""The in-toto reference predicate v0.1: documents about the subject, by digest, too large to be signed in whole.

Field names follow the in-toto attestation framework, `spec/predicates/reference.md`, which wants a media type and a
place to fetch it from for each.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic.alias_generators import to_camel

from builder.signing.slsa import ResourceDescriptor
from builder.signing.statement import REFERENCE, Statement, Subject


class _Element(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Attester(_Element):
    id: str = Field(min_length=1)


class References(_Element):
    """The predicate of type `https://in-toto.io/attestation/reference/v0.1`."""

    attester: Attester
    references: tuple[ResourceDescriptor, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not all(one.digest and one.media_type and one.download_location for one in self.references):
            raise ValueError("each reference needs digest, mediaType and downloadLocation")
        return self

    def predicate(self) -> dict[str, JsonValue]:
        """As JSON, in the specification's names, without what is not known."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def statement(self, *subjects: Subject) -> Statement:
        return Statement(subject=subjects, predicateType=REFERENCE, predicate=self.predicate())
