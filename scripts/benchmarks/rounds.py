"""Rounds of Goldsmith beside its peers: each side's seconds in turn, and the medians as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.peers import Buildah, Docker, Made, Mmdebstrap, Peer
from scripts.benchmarks.released import Release, recipes_without_locks
from scripts.stack.services import Stack

ROUNDS = 3


@dataclass(frozen=True)
class Round:
    """What Goldsmith took, and what each peer, one right after the other."""

    ours: Release
    peers: dict[str, Made]


@contextmanager
def fresh(work: Path, kinds: Sequence[type[Docker | Buildah | Mmdebstrap]]) -> Iterator[tuple[Stack, list[Peer]]]:
    """A Goldsmith and peers that have nothing yet."""
    stack = Stack(work / "stack", any_ports=True)
    stack.overrides["RECIPES_DIRECTORY"] = str(recipes_without_locks(work / "recipes"))
    peers: list[Peer] = [kind(stack, work / kind.__name__.lower()) for kind in kinds]
    try:
        stack.up(_say)
        yield stack, peers
    finally:
        stack.down(_say)
        for peer in peers:
            peer.clean()


def compared(scenario: str, rounds: Sequence[Round], goal: float) -> bool:
    """Prints the medians, and where Goldsmith's time went; whether the goal is met."""
    ours = sorted((one.ours for one in rounds), key=lambda run: run.seconds)[len(rounds) // 2]
    peers = {name: median([one.peers[name] for one in rounds]) for name in rounds[0].peers}
    ours.print_steps(f"Goldsmith, {scenario}, median")
    for name, made in peers.items():
        print(f"{name}, {scenario}, median: {_listed(made.image)}; {_listed(made.added)}")
    print(
        f"\n| {scenario} | the image | scanned, signed, pushed | each time | ratio |\n| --- | --- | --- | --- | --- |"
    )
    each = ", ".join(f"{one.ours.seconds:.1f}" for one in rounds)
    print(f"| Goldsmith | {ours.image_seconds:.1f} s | {ours.seconds:.1f} s | {each} | |")
    for name, made in peers.items():
        each = ", ".join(f"{one.peers[name].seconds:.1f}" for one in rounds)
        ratio = ours.seconds / made.seconds
        print(f"| {name} | {sum(made.image.values()):.1f} s | {made.seconds:.1f} s | {each} | {ratio:.2f} |")
    ratio = ours.seconds / min(made.seconds for made in peers.values())
    return judged(ratio <= goal, f"{ratio:.2f} of the fastest peer's time; the goal is {goal:.2f} at most")


def judged(met: bool, said: str) -> bool:
    print(f"\n{'met' if met else 'missed'}: {said}")
    return met


def median(runs: Sequence[Made]) -> Made:
    return sorted(runs, key=lambda made: made.seconds)[len(runs) // 2]


def _listed(times: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr)
