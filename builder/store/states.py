"""The state machine of a build, in one place. A transition that is not in the table cannot happen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from builder.errors import Broken


class State(StrEnum):
    WAITING = "waiting"  # for the release of its base
    QUEUED = "queued"
    BUILDING = "building"
    BUILT = "built"  # staged by digest; queued for the scan
    SCANNING = "scanning"
    SCANNED = "scanned"  # past the gate; queued for the release
    RELEASING = "releasing"
    RELEASED = "released"
    RESOLVING = "resolving"
    LOCKED = "locked"
    PLANNING = "planning"
    PLANNED = "planned"
    REBUILDING = "rebuilding"
    REPRODUCED = "reproduced"  # bit for bit, and attested
    COMPARING = "comparing"
    COMPARED = "compared"  # whatever the verdict
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in FINAL


FINAL = frozenset(
    {
        State.RELEASED, State.LOCKED, State.PLANNED, State.REPRODUCED, State.COMPARED, State.FAILED, State.CANCELLED,
    }
)  # fmt: skip

# A worker has begun, and the build has not ended.
BEGUN = frozenset(State) - FINAL - {State.WAITING, State.QUEUED}

_ENDS = frozenset({State.FAILED, State.CANCELLED})
_ALLOWED: dict[State, frozenset[State]] = {
    State.WAITING: _ENDS | {State.QUEUED},
    State.QUEUED: _ENDS | {State.BUILDING, State.RESOLVING, State.PLANNING, State.REBUILDING, State.COMPARING},
    # An image that is released already, bit for bit from the same inputs, needs no build.
    State.BUILDING: _ENDS | {State.BUILT, State.QUEUED, State.RELEASED},
    State.BUILT: _ENDS | {State.SCANNING},
    State.SCANNING: _ENDS | {State.SCANNED, State.BUILT},
    State.SCANNED: _ENDS | {State.RELEASING},
    State.RELEASING: _ENDS | {State.RELEASED, State.SCANNED},
    State.RELEASED: frozenset(),
    State.RESOLVING: _ENDS | {State.LOCKED, State.QUEUED},
    State.LOCKED: frozenset(),
    State.PLANNING: _ENDS | {State.PLANNED, State.QUEUED},
    State.PLANNED: frozenset(),
    State.REBUILDING: _ENDS | {State.REPRODUCED, State.QUEUED},
    State.REPRODUCED: frozenset(),
    State.COMPARING: _ENDS | {State.COMPARED, State.QUEUED},
    State.COMPARED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


@dataclass(frozen=True)
class Stage:
    """A part of the path that one worker does: the queue it is fed from, and the states before, during and after."""

    queue: str
    ready: State
    running: State
    done: State


BUILD = Stage("build", State.QUEUED, State.BUILDING, State.BUILT)
SCAN = Stage("scan", State.BUILT, State.SCANNING, State.SCANNED)
RELEASE = Stage("release", State.SCANNED, State.RELEASING, State.RELEASED)
RESOLVE = Stage("resolve", State.QUEUED, State.RESOLVING, State.LOCKED)
# Of the same queue: it resolves, too.
PLAN = Stage("resolve", State.QUEUED, State.PLANNING, State.PLANNED)
REBUILD = Stage("rebuild", State.QUEUED, State.REBUILDING, State.REPRODUCED)
COMPARE = Stage("compare", State.QUEUED, State.COMPARING, State.COMPARED)
STAGES = (BUILD, SCAN, RELEASE, RESOLVE, PLAN, REBUILD, COMPARE)


class Priority(StrEnum):
    """Which of the builds that wait for a worker comes first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Purpose(StrEnum):
    """What a build is for. Each has its own path of stages."""

    RELEASE = "release"
    LOCK = "lock"
    PLAN = "plan"
    REBUILD = "rebuild"
    COMPARE = "compare"


PATHS: dict[Purpose, tuple[Stage, ...]] = {
    Purpose.RELEASE: (BUILD, SCAN, RELEASE),
    Purpose.LOCK: (RESOLVE,),
    Purpose.PLAN: (PLAN,),
    Purpose.REBUILD: (REBUILD,),
    Purpose.COMPARE: (COMPARE,),
}


class TransitionRefused(Broken):
    slug = "transition-refused"
    title = "A build cannot go from this state to that one"
    status = 409


def check_transition(before: State, after: State) -> None:
    """Raises TransitionRefused."""
    if after not in _ALLOWED[before]:
        raise TransitionRefused(f"a build cannot go from {before} to {after}")


def stage_ready_in(state: State, purpose: Purpose) -> Stage | None:
    return next((stage for stage in PATHS[purpose] if stage.ready is state), None)


def stage_running_in(state: State) -> Stage | None:
    return next((stage for stage in STAGES if stage.running is state), None)
