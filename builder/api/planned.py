"""What a dry run answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.pipeline.evidence import Plan


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class PlannedPackageView(_View):
    name: str = Field(examples=["nginx-light"])
    version: str = Field(examples=["1.26.3-3+deb13u1"])
    architecture: str
    sha256: str
    size: int = Field(description="Of the package's file, in bytes.")
    bootstrap: bool = Field(description="Part of the base that is bootstrapped.")
    source: str = Field(
        description="Where a build would take it from: `cache` (the worker's), `registry` (kept beside an image), "
        "`archive`; `unknown` where the lock does not say.",
        examples=["cache"],
    )


class UnchangedView(_View):
    build_id: str
    digest: str


class PlanView(_View):
    """What a build would do, if it were asked for now."""

    builds_first: list[str] = Field(
        description="Recipes without a current release that would be built first, the deepest base first. "
        "Then the rest is not known yet."
    )
    hermetic: bool = Field(description="Whether no step asks for a network.")
    base: str | None = Field(description="The image by digest, or the suite that is bootstrapped.")
    base_cached: bool = Field(description="Whether the worker has that bootstrapped already.")
    packages: list[PlannedPackageView]
    fetch_bytes: int = Field(description="The size of the packages that were not in the cache.")
    files: list[str] = Field(description="The files that the recipe brings.")
    lock_digest: str | None
    lock_given: bool = Field(description="The lock that was given or is beside the recipe; else it was resolved now.")
    unchanged: UnchangedView | None = Field(description="The release that would answer, without a build.")


def plan_view(evidence: dict[str, Any]) -> PlanView | None:
    found = evidence.get("plan")
    return None if found is None else PlanView.model_validate(Plan.model_validate(found), from_attributes=True)
