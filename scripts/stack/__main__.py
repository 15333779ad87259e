"""`python -m scripts.stack up|down|status STATE`: what the quickstart calls."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.stack.processes import StackFailed
from scripts.stack.services import WORKERS, Stack

_NAMES = ("engine", "redis", "registry", "sigstore", "api", *(f"worker-{queue}" for queue in WORKERS), "dispatcher")


def _state(stack: Stack, name: str) -> str:
    if stack.process(name).alive():
        return "runs"
    return "one that was there before answers" if name == "engine" and stack.engine_answers() else "does not run"


def main(arguments: list[str]) -> int:
    action, state = arguments
    stack = Stack(Path(state))
    try:
        if action == "up":
            stack.up(lambda line: print(f"  {line}", flush=True))
        elif action == "down":
            stack.down(lambda line: print(f"  {line}", flush=True))
        else:
            for name in _NAMES:
                print(f"  {name}: {_state(stack, name)}")
    except StackFailed as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
