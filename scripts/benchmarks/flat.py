"""One image each, like for like: the content of the shipped web image as one recipe, beside mmdebstrap alone.

`scripts/bench build` releases a base and an image on it, where mmdebstrap makes a single tree. Here Goldsmith too
bootstraps everything at once, from a recipe with the packages, files, account and tests of both. To mmdebstrap is
added, by hand, what Goldsmith does by itself; neither has anything kept from before. Both take turns, three times, and
the medians count.

Goal: not slower.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from scripts.benchmarks.peers import Mmdebstrap, missing_programs
from scripts.benchmarks.released import forget_bootstraps, release, shipped
from scripts.benchmarks.rounds import ROUNDS, Round, compared, fresh

_GOAL = 1.0


def main() -> int:
    if missing_programs():
        return 69
    rounds = []
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as directory:
        for number in range(ROUNDS):
            with fresh(Path(directory) / f"round-{number}", (Mmdebstrap,)) as (stack, peers):
                forget_bootstraps(stack)
                rounds.append(Round(release(stack, _flat()), {peer.name: peer.cold() for peer in peers}))
    compared("cold, one image", rounds, _GOAL)
    return 0


def _flat() -> dict[str, Any]:
    """recipes/web.yaml with what recipes/debian.yaml brings, as a recipe of its own."""
    base, data = shipped("debian"), shipped("web")
    spec = data["spec"]
    data["metadata"]["name"] = "web-flat"
    spec["base"] = base["spec"]["base"]
    spec["packages"] = [*base["spec"]["packages"], *spec["packages"]]
    spec["environment"] = base["spec"]["environment"]
    spec["publish"]["repository"] = "bench/web-flat"
    return data
