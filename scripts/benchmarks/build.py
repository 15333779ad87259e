"""The shipped web image beside other builders of images: seconds to the image, and to one that is scanned and signed.

All make the same: Debian trixie with ca-certificates, tzdata and nginx-light, two files and an account. The peers are

  docker build   the classic builder, on a base that mmdebstrap made
  buildah bud    chroot isolation and overlay storage, on such a base
  mmdebstrap     alone: all packages at once, the rest as hooks, `docker import` for the configuration

and to each is added, by hand, what Goldsmith does by itself: skopeo copy to the registry, a Trivy run for findings and
one for an SBOM, and the stock `sigstore` command to attest. They share mirrors, engine, registry, Trivy, database and
Sigstore. Only Goldsmith also releases the base, runs the recipes' tests and removes documentation and apt.

  cold       nothing kept: no index, no package, no base, no layer, no Trivy database. Programs are installed, and the
             database is in the local registry. Peers use their builders without a cache.
  changed    one package more, another each time, with all that is kept from before.
  unchanged  the same request again; Goldsmith's by `goldsmith build web`, its start included.

All take turns, three times, and the medians count.

Goals: cold, not slower than the fastest peer; changed, half the fastest peer's time at most; unchanged, under 1 s.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.recipes.catalogue import Catalogue
from scripts.benchmarks.peers import Buildah, Docker, Made, Mmdebstrap, Peer
from scripts.benchmarks.released import Release, ask_again, forget_bootstraps, recipes_without_locks, release
from scripts.stack.services import ROOT, Stack

_PROGRAMS = {"docker": "docker.io", "buildah": "buildah", "skopeo": "skopeo", "mmdebstrap": "mmdebstrap"}
# Small, and nothing that the others bring; a new one each time, so that nobody has it.
_ADDED = ("tini", "dumb-init", "tree")
_ROUNDS = 3
_COLD, _CHANGED, _UNCHANGED_SECONDS = 1.0, 0.5, 1.0


def main() -> int:
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        print(f"not installed: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 69
    cold: list[_Round] = []
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as directory:
        for number in range(_ROUNDS):
            with _fresh(Path(directory) / f"round-{number}") as (stack, peers):
                forget_bootstraps(stack)
                cold.append(_Round(release(stack, "web"), {peer.name: peer.cold() for peer in peers}))
                if number == _ROUNDS - 1:
                    again = [ask_again(stack, "web", Path(directory)) for _ in _ADDED]
                    unchanged = {peer.name: [peer.build() for _ in _ADDED] for peer in peers if peer.remembers}
                    changed = [_changed(stack, peers, package) for package in _ADDED]
    met = [
        _compared("cold", cold, _COLD),
        _compared("changed", changed, _CHANGED),
        _unchanged_table(statistics.median(again), {name: _median(runs) for name, runs in unchanged.items()}),
    ]
    print(f"\n{sum(met)} of {len(met)} goals met")
    return 0


@dataclass(frozen=True)
class _Round:
    """What Goldsmith took, and what each peer, one right after the other."""

    ours: Release
    peers: dict[str, Made]


@contextmanager
def _fresh(work: Path) -> Iterator[tuple[Stack, list[Peer]]]:
    """A Goldsmith and peers that have nothing yet."""
    stack = Stack(work / "stack", any_ports=True)
    stack.overrides["RECIPES_DIRECTORY"] = str(recipes_without_locks(work / "recipes"))
    peers: list[Peer] = [kind(stack, work / kind.__name__.lower()) for kind in (Docker, Buildah, Mmdebstrap)]
    try:
        stack.up(_say)
        yield stack, peers
    finally:
        stack.down(_say)
        for peer in peers:
            peer.clean()


def _changed(stack: Stack, peers: Sequence[Peer], package: str) -> _Round:
    return _Round(release(stack, _web_with(package)), {peer.name: peer.build(package) for peer in peers})


def _web_with(package: str) -> dict[str, Any]:
    """recipes/web.yaml with one more package, as a recipe of its own."""
    recipe = Catalogue(ROOT / "recipes").get("web").recipe
    data: dict[str, Any] = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    data["metadata"]["name"] = f"web-{package}"
    data["spec"]["packages"].append(package)
    data["spec"]["publish"]["repository"] = f"bench/web-{package}"
    return data


def _compared(scenario: str, rounds: Sequence[_Round], goal: float) -> bool:
    """Prints the medians, and where Goldsmith's time went; whether the goal is met."""
    ours = sorted((one.ours for one in rounds), key=lambda run: run.seconds)[len(rounds) // 2]
    peers = {name: _median([one.peers[name] for one in rounds]) for name in rounds[0].peers}
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
    return _judged(ratio <= goal, f"{ratio:.2f} of the fastest peer's time; the goal is {goal:.2f} at most")


def _unchanged_table(ours: float, peers: dict[str, Made]) -> bool:
    print("\n| unchanged | the image | scanned, signed, pushed |\n| --- | --- | --- |")
    print(f"| Goldsmith | | {ours:.2f} s |")
    for name, made in peers.items():
        print(f"| {name} | {sum(made.image.values()):.2f} s | {made.seconds:.2f} s |")
    print("| mmdebstrap | starts over | starts over |")
    return _judged(ours < _UNCHANGED_SECONDS, f"{ours:.2f} s; the goal is under {_UNCHANGED_SECONDS:g} s")


def _judged(met: bool, said: str) -> bool:
    print(f"\n{'met' if met else 'missed'}: {said}")
    return met


def _median(runs: Sequence[Made]) -> Made:
    return sorted(runs, key=lambda made: made.seconds)[len(runs) // 2]


def _listed(times: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr)
