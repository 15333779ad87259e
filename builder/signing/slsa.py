"""SLSA Provenance v1: which inputs, through which build, made the subject.

Field names and rules follow the SLSA specification v1.0, "Provenance", and in-toto's ResourceDescriptor.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    model_validator,
)
from pydantic.alias_generators import to_camel

from builder.signing.statement import SLSA_PROVENANCE, Statement, Subject


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _decoded(content: object) -> object:
    return base64.b64decode(content, validate=True) if isinstance(content, str) else content


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


Timestamp = Annotated[AwareDatetime, PlainSerializer(_rfc3339, return_type=str)]
Content = Annotated[bytes, BeforeValidator(_decoded), PlainSerializer(_encoded, return_type=str)]


class _Element(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ResourceDescriptor(_Element):
    """A thing the build used or made: at least one of `uri`, `digest` and `content` says which."""

    uri: str | None = None
    digest: dict[str, str] | None = None
    name: str | None = None
    download_location: str | None = None
    media_type: str | None = None
    content: Content | None = None
    annotations: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _identified(self) -> Self:
        if not (self.uri or self.digest or self.content):
            raise ValueError("a resource needs at least one of uri, digest and content")
        return self


class BuildDefinition(_Element):
    """The inputs. `external_parameters` are what the requester chose, and a verifier must check every one of them."""

    build_type: str = Field(min_length=1)
    external_parameters: dict[str, JsonValue]
    internal_parameters: dict[str, JsonValue] | None = None
    resolved_dependencies: tuple[ResourceDescriptor, ...] = ()


class Builder(_Element):
    """Who ran the build. `id` stands for everything that has to be trusted to believe this record."""

    id: str = Field(min_length=1)
    builder_dependencies: tuple[ResourceDescriptor, ...] = ()
    version: dict[str, str] | None = None


class BuildMetadata(_Element):
    """Which run it was, and when, to the second."""

    invocation_id: str | None = None
    started_on: Timestamp | None = None
    finished_on: Timestamp | None = None


class RunDetails(_Element):
    builder: Builder
    metadata: BuildMetadata | None = None
    byproducts: tuple[ResourceDescriptor, ...] = ()


class Provenance(_Element):
    """The predicate of type `https://slsa.dev/provenance/v1`."""

    build_definition: BuildDefinition
    run_details: RunDetails

    def predicate(self) -> dict[str, JsonValue]:
        """As JSON, in the specification's names, without what is not known."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def statement(self, *subjects: Subject) -> Statement:
        return Statement(subject=subjects, predicateType=SLSA_PROVENANCE, predicate=self.predicate())
