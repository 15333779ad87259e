"""The policy: the part of a recipe that says which findings may be released."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SeverityLimit = Literal["none", "low", "medium", "high", "critical"]


class Policy(BaseModel):
    """`spec.policy` of a recipe. Unknown keys are refused, so a typo cannot open the gate."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    maximum_severity: SeverityLimit = Field(
        default="medium",
        description="The worst severity of a known vulnerability that may still be released; 'none' allows no "
        "vulnerability at all. A vulnerability that nobody has rated counts as critical.",
    )
    ignore_unfixed: bool = Field(default=False, description="Do not hold back for vulnerabilities without a fix.")
    allow_secrets: bool = Field(default=False, description="Release although the scanner found secrets in the image.")
