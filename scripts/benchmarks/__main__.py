"""`python -m scripts.benchmarks NAME`."""

from __future__ import annotations

import sys

from scripts.benchmarks import pipeline

_BENCHMARKS = {"pipeline": pipeline.main}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in _BENCHMARKS:
        print(f"usage: scripts/bench {'|'.join(_BENCHMARKS)}", file=sys.stderr)
        return 64
    return _BENCHMARKS[arguments[0]]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
