"""How long a build will take, judged by those of the same recipe that came to the same end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from builder.client.api import Client
from builder.client.models import Build
from builder.errors import GoldsmithError

_LOOKED_AT = 10
_ENDS = {"release": "released", "lock": "locked", "plan": "planned", "rebuild": "reproduced", "compare": "compared"}


@dataclass(frozen=True)
class Estimate:
    """In seconds. `to_go` is from the start of each step to the end of all: waits between steps are in it, and steps
    side by side count once. Medians, so that one build that had to wait does not decide."""

    whole: float
    to_go: dict[str, float] = field(default_factory=dict)


def estimate(client: Client, build: Build) -> Estimate | None:
    """None where there is nothing to go by; that is no reason to follow nothing."""
    try:
        before = client.builds(recipe=build.recipe, state=_ENDS.get(build.purpose, "released"), limit=_LOOKED_AT)
    except GoldsmithError:
        return None
    return estimate_from([one for one in before if one.id != build.id])


def estimate_from(builds: Sequence[Build]) -> Estimate | None:
    """Of builds that a worker carried through at the first attempt, and that made something."""
    whole: list[float] = []
    to_go: defaultdict[str, list[float]] = defaultdict(list)
    for build in builds:
        if build.finished_at is None or build.attempt != 1 or build.unchanged_since or not build.steps:
            continue
        whole.append((build.finished_at - build.steps[0].started_at).total_seconds())
        for step in build.steps:
            to_go[step.name].append((build.finished_at - step.started_at).total_seconds())
    if not whole:
        return None
    return Estimate(median(whole), {name: median(times) for name, times in to_go.items()})
