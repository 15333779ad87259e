"""The in-toto test result predicate v0.1: which of the recipe's own tests ran against the subject, all passing.

Field names follow the in-toto attestation framework, `spec/predicates/test-result.md`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from builder.signing.slsa import ResourceDescriptor
from builder.signing.statement import TEST_RESULT, Statement, Subject


class TestRun(BaseModel):
    """The predicate of type `https://in-toto.io/attestation/test-result/v0.1`. There is one only for what passed;
    a recipe without tests has an empty list, which says that none ran."""

    __test__ = False
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    result: Literal["PASSED"] = "PASSED"
    configuration: tuple[ResourceDescriptor, ...] = Field(min_length=1)
    passed_tests: tuple[str, ...]
    warned_tests: tuple[str, ...] = ()
    failed_tests: tuple[()] = ()

    def predicate(self) -> dict[str, JsonValue]:
        """As JSON, in the specification's names."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def statement(self, *subjects: Subject) -> Statement:
        return Statement(subject=subjects, predicateType=TEST_RESULT, predicate=self.predicate())
