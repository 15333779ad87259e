"""Each process killed (signal 9) at named points of everything it does: what was accepted is released once, and whole.

A build is killed at several points, one after the other.
"""

from __future__ import annotations

import time
from uuid import uuid4

import httpx
import pytest

from tests.end_to_end.faults.points import POINTS
from tests.end_to_end.faults.selection import some
from tests.end_to_end.faults.world import Faulty

# Of each process: so many of its points where not all are tried, and so many kills of one build.
SAMPLES = {"api": 1, "dispatcher": 1, "build": 3, "scan": 2, "release": 5}
CHAIN = 7
# What is recorded is not recorded again: of these a build comes by one.
ONCE = {"record.after", "step.record.ending", "step.record.ended"}
PATIENCE = 150.0


def chains() -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for process, points in POINTS.items():
        chain: list[str] = []
        for point in some([*points], SAMPLES[process]):
            if len(chain) == CHAIN or (point in ONCE and ONCE.intersection(chain)):
                found.append((process, tuple(chain)))
                chain = []
            chain.append(point)
        found.append((process, tuple(chain)))
    return found


def test_there_are_enough_points() -> None:
    assert sum(len(points) for points in POINTS.values()) >= 60


@pytest.mark.parametrize(("process", "points"), chains(), ids=lambda one: one if isinstance(one, str) else one[0])
def test_a_process_that_is_killed_anywhere_costs_time_and_nothing_else(
    faulty: Faulty, process: str, points: tuple[str, ...]
) -> None:
    recipe = faulty.tiny(f"{process}-{uuid4().hex[:8]}")
    left = list(points)
    faulty.arm(left[0])
    build_id = submitted(faulty, recipe, left)
    deadline = time.monotonic() + PATIENCE
    while left:
        next_point(faulty, left)
        faulty.restart_dead()
        assert time.monotonic() < deadline, f"nothing came by {left[0]}: {faulty.stored(build_id).state}"
        time.sleep(0.05)
    build = faulty.ended(build_id, PATIENCE)
    assert build.state == "released", build.problem
    if process in ("build", "scan", "release"):
        lost = [one for one in build.retries if one["type"] == "/problems/worker-lost"]
        assert lost or set(points) <= {"claim.uncommitted", "complete.after"} | {p for p in points if "checkpoint" in p}
    faulty.must_hold([build_id])


def next_point(faulty: Faulty, left: list[str]) -> None:
    if left and faulty.died_at(left[0]):
        del left[0]
        if left:
            faulty.arm(left[0])


def submitted(faulty: Faulty, recipe: dict[str, object], left: list[str]) -> str:
    """Asked for until the service answers: with one key, so it is one build."""
    headers, deadline = {"Idempotency-Key": uuid4().hex}, time.monotonic() + PATIENCE
    while True:
        try:
            answer = faulty.api.post("/v1/builds", json={"recipe": recipe, "force": True}, headers=headers)
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == 202:
            return str(answer.json()["id"])
        assert time.monotonic() < deadline, answer.text if answer is not None else "no answer"
        next_point(faulty, left)
        faulty.restart_dead()
        time.sleep(0.3)
