"""Why a build was begun more than once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field


class AttemptView(BaseModel):
    """An attempt that came to nothing, and was followed by another."""

    attempt: int
    at: datetime
    state: str = Field(description="What was under way.", examples=["releasing"])
    type: str = Field(examples=["/problems/registry-unavailable"])
    detail: str


def attempt_views(retries: list[dict[str, Any]]) -> list[AttemptView]:
    return [AttemptView(**{**one, "at": datetime.fromtimestamp(one["at"], UTC)}) for one in retries]
