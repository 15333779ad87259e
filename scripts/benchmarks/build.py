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
  changed    one package more, with all that is kept from before. It differs each time; the median of three counts.
  unchanged  the same request again; Goldsmith's by `goldsmith build web`, its start included. The median of three.

Goals: cold, not slower than the fastest peer; changed, half the fastest peer's time at most; unchanged, under 1 s.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.recipes.catalogue import Catalogue
from scripts.benchmarks.peers import Buildah, Docker, Made, Mmdebstrap, Peer
from scripts.benchmarks.released import Release, ask_again, forget_bootstraps, recipes_without_locks, release
from scripts.stack.services import ROOT, Stack

_PROGRAMS = {"docker": "docker.io", "buildah": "buildah", "skopeo": "skopeo", "mmdebstrap": "mmdebstrap"}
# Small, and nothing that the others bring; a new one each time, so that nobody has it.
_ADDED = ("tini", "dumb-init", "tree")
_UNCHANGED_SECONDS = 1.0


def main() -> int:
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        print(f"not installed: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 69
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as directory:
        work = Path(directory)
        stack = Stack(work / "stack", any_ports=True)
        stack.overrides["RECIPES_DIRECTORY"] = str(recipes_without_locks(work / "recipes"))
        try:
            stack.up(_say)
            return _measure(stack, work)
        finally:
            stack.down(_say)


def _measure(stack: Stack, work: Path) -> int:
    peers: list[Peer] = [Docker(stack, work / "docker"), Buildah(stack, work / "buildah")]
    peers.append(Mmdebstrap(stack, work / "mmdebstrap"))
    try:
        forget_bootstraps(stack)
        ours = release(stack, "web")
        cold = {peer.name: peer.cold() for peer in peers}
        again = [ask_again(stack, "web", work) for _ in _ADDED]
        unchanged = {peer.name: [peer.build() for _ in _ADDED] for peer in peers if peer.remembers}
        changed: list[Release] = []
        theirs: dict[str, list[Made]] = {peer.name: [] for peer in peers}
        for package in _ADDED:
            changed.append(release(stack, _web_with(package)))
            for peer in peers:
                theirs[peer.name].append(peer.build(package))
    finally:
        for peer in peers:
            peer.clean()
    ours.print_steps("Goldsmith, cold (base and web)")
    our_changed = sorted(changed, key=lambda run: run.seconds)[len(changed) // 2]
    our_changed.print_steps("Goldsmith, changed, median")
    for name, made in cold.items():
        print(f"{name}, cold: {_listed(made.image)}; {_listed(made.added)}")
    their_changed = {name: _median(runs) for name, runs in theirs.items()}
    for name, made in their_changed.items():
        print(f"{name}, changed, median: {_listed(made.image)}; {_listed(made.added)}")
    met = [
        _table("cold", ours, cold, 1.0),
        _table("changed", our_changed, their_changed, 0.5),
        _unchanged_table(statistics.median(again), {name: _median(runs) for name, runs in unchanged.items()}),
    ]
    print(f"\n{sum(met)} of {len(met)} goals met")
    return 0


def _web_with(package: str) -> dict[str, Any]:
    """recipes/web.yaml with one more package, as a recipe of its own."""
    recipe = Catalogue(ROOT / "recipes").get("web").recipe
    data: dict[str, Any] = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    data["metadata"]["name"] = f"web-{package}"
    data["spec"]["packages"].append(package)
    data["spec"]["publish"]["repository"] = f"bench/web-{package}"
    return data


def _table(scenario: str, ours: Release, peers: dict[str, Made], goal: float) -> bool:
    print(f"\n| {scenario} | the image | scanned, signed, pushed | Goldsmith's ratio |\n| --- | --- | --- | --- |")
    print(f"| Goldsmith | {ours.image_seconds:.1f} s | {ours.seconds:.1f} s | |")
    for name, made in peers.items():
        ratio = ours.seconds / made.seconds
        print(f"| {name} | {sum(made.image.values()):.1f} s | {made.seconds:.1f} s | {ratio:.2f} |")
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
