"""`python -m scripts.benchmarks NAME`."""

from __future__ import annotations

import argparse

from scripts.benchmarks import api, build, canonical, compare, flat, ledger, load, pipeline, scan, search

_BENCHMARKS = {
    "api": api,
    "build": build,
    "canonical": canonical,
    "compare": compare,
    "flat": flat,
    "ledger": ledger,
    "load": load,
    "pipeline": pipeline,
    "scan": scan,
    "search": search,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Goldsmith beside its peers, in one run.")
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, module in _BENCHMARKS.items():
        described = module.__doc__ or ""
        names.add_parser(
            name,
            help=described.splitlines()[0],
            description=described,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    return _BENCHMARKS[parser.parse_args().name].main()


if __name__ == "__main__":
    raise SystemExit(main())
