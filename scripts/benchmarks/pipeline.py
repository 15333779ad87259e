"""From POST to released, by step, cold and warm; beside the same image made, pushed, scanned and signed by hand.

By hand means: mmdebstrap and `docker import` for the base, a Dockerfile equal to recipes/web.yaml, `docker build
--no-cache`, `docker push`, one Trivy run for findings and one for an SBOM, and the stock `sigstore` command to attest.
It leaves out what only Goldsmith does: the recipe's tests, the inventory, attaching, the record, the live log.
Both use the same mirrors, engine, registry, Trivy, database and Sigstore. Cold means empty caches on both sides; warm
is the same build once more, by force.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from scripts.benchmarks.byhand import LABEL, ByHand
from scripts.benchmarks.released import forget_bootstraps, recipes_without_locks, release
from scripts.stack.services import Stack

_WARM_RUNS = 3
_BASE = "hand-base"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as work:
        stack = Stack(Path(work) / "stack", any_ports=True)
        stack.overrides["RECIPES_DIRECTORY"] = str(recipes_without_locks(Path(work) / "recipes"))
        try:
            stack.up(lambda line: print(line, file=sys.stderr))
            forget_bootstraps(stack)
            ours_cold = release(stack, "web")
            ours_warm = [release(stack, "web", force=True) for _ in range(_WARM_RUNS)]
            hand = _Docker(stack, Path(work) / "hand")
            hand_cold = hand.cold()
            hand_warm = [hand.warm() for _ in range(_WARM_RUNS)]
            hand.clean()
        finally:
            stack.down(lambda line: print(line, file=sys.stderr))
    ours_cold.print_steps("cold (base and web)")
    warm = sorted(ours_warm, key=lambda run: run.seconds)[_WARM_RUNS // 2]
    warm.print_steps("warm (web on its released base), median")
    hand_warm_total = sorted(sum(run.values()) for run in hand_warm)[_WARM_RUNS // 2]
    print("by hand, cold: " + _listed(hand_cold))
    print("by hand, warm, last: " + _listed(hand_warm[-1]))
    cold_total = sum(hand_cold.values())
    print("\n| | Goldsmith | by hand | ratio |\n| --- | --- | --- | --- |")
    print(f"| cold | {ours_cold.seconds:.1f} s | {cold_total:.1f} s | {ours_cold.seconds / cold_total:.2f} |")
    print(f"| warm | {warm.seconds:.1f} s | {hand_warm_total:.1f} s | {warm.seconds / hand_warm_total:.2f} |")
    return 0


class _Docker:
    def __init__(self, stack: Stack, work: Path) -> None:
        self._hand = ByHand(stack, work)
        self._image = f"{stack.registry}/hand/web:latest"

    def cold(self) -> dict[str, float]:
        tar = self._hand.work / "base.tar"
        times = {"mmdebstrap": self._hand.bootstrap(tar, ["ca-certificates", "tzdata"])}
        times["docker import"] = self._hand.timed(["docker", "import", "--change", f"LABEL {LABEL}=", str(tar), _BASE])
        return times | self.warm(database=True)

    def warm(self, *, database: bool = False) -> dict[str, float]:
        context = self._hand.write_context(_BASE, ["nginx-light"])
        # The container needs a way to the archive, which a build by Goldsmith never has.
        build = ["docker", "build", "--no-cache", "--network=host", "--quiet", "-t", self._image, str(context)]
        times = {"docker build": self._hand.timed(build)}
        times["docker push"] = self._hand.timed(["docker", "push", "--quiet", self._image])
        return times | self._hand.evidence(self._image, database=database)

    def clean(self) -> None:
        self._hand.forget_images()


def _listed(times: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())
