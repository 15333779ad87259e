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

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarks.peers import Buildah, Docker, Made, Mmdebstrap, Peer, missing_programs
from scripts.benchmarks.released import ask_again, forget_bootstraps, release, shipped
from scripts.benchmarks.rounds import ROUNDS, Round, compared, fresh, judged, median
from scripts.stack.services import Stack

# Small, and nothing that the others bring; a new one each time, so that nobody has it.
_ADDED = ("tini", "dumb-init", "tree")
_COLD, _CHANGED, _UNCHANGED_SECONDS = 1.0, 0.5, 1.0


def main() -> int:
    if missing_programs():
        return 69
    cold: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as directory:
        for number in range(ROUNDS):
            with fresh(Path(directory) / f"round-{number}", (Docker, Buildah, Mmdebstrap)) as (stack, peers):
                forget_bootstraps(stack)
                cold.append(Round(release(stack, "web"), {peer.name: peer.cold() for peer in peers}))
                if number == ROUNDS - 1:
                    again = [ask_again(stack, "web", Path(directory)) for _ in _ADDED]
                    unchanged = {peer.name: [peer.build() for _ in _ADDED] for peer in peers if peer.remembers}
                    changed = [_changed(stack, peers, package) for package in _ADDED]
    met = [
        compared("cold", cold, _COLD),
        compared("changed", changed, _CHANGED),
        _unchanged_table(statistics.median(again), {name: median(runs) for name, runs in unchanged.items()}),
    ]
    print(f"\n{sum(met)} of {len(met)} goals met")
    return 0


def _changed(stack: Stack, peers: Sequence[Peer], package: str) -> Round:
    return Round(release(stack, _web_with(package)), {peer.name: peer.build(package) for peer in peers})


def _web_with(package: str) -> dict[str, Any]:
    """recipes/web.yaml with one more package, as a recipe of its own."""
    data = shipped("web")
    data["metadata"]["name"] = f"web-{package}"
    data["spec"]["packages"].append(package)
    data["spec"]["publish"]["repository"] = f"bench/web-{package}"
    return data


def _unchanged_table(ours: float, peers: dict[str, Made]) -> bool:
    print("\n| unchanged | the image | scanned, signed, pushed |\n| --- | --- | --- |")
    print(f"| Goldsmith | | {ours:.2f} s |")
    for name, made in peers.items():
        print(f"| {name} | {sum(made.image.values()):.2f} s | {made.seconds:.2f} s |")
    print("| mmdebstrap | starts over | starts over |")
    return judged(ours < _UNCHANGED_SECONDS, f"{ours:.2f} s; the goal is under {_UNCHANGED_SECONDS:g} s")
