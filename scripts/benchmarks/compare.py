"""A container against its golden image beside `docker diff` and diffoscope: seconds, memory, and what each misses.

The container is of Debian trixie with nginx-light, Python and Perl; one change of each kind is planted in it. On it

  ours           the digest of the golden inventory checked, the inventory read, the container exported, both merged,
                 the findings judged; in a process of its own, whose start is told apart
  docker export  to nothing: the floor, for whoever reads a container through its engine reads this
  docker diff    paths alone, by what the engine's storage says
  diffoscope     on exports of the golden and of the changed container, which are there already; runs once

take turns, three times, and the medians count. A change is missed if no finding names its path. Then ours alone and the
floor, on containers of 100,000 and 1,000,000 small files and directories, with nothing planted.

Uses the engine at $DOCKER_HOST; needs 12 GB there and 3 GB below $TMPDIR, mmdebstrap and diffoscope (Debian packages
`mmdebstrap` and `diffoscope-minimal`).

Goals: at most 1.5 times the floor; less than 150 MB of memory at any size; nothing missed; linear.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from builder.forensics.compare import compare
from builder.forensics.judging import judge_with
from builder.forensics.rules import shipped_rules
from builder.forensics.subjects.container import ContainerSubject, find_container
from builder.image.digests import digest_of_file
from builder.image.inventory import open_inventory, write_inventory
from builder.planning.mirrors import find_mirrors
from scripts.benchmarks.planted import GOLDEN, PLANT, PLANTED, shown_at
from scripts.benchmarks.smallfiles import write_small_files

_PROGRAMS = {"docker": "docker.io", "mmdebstrap": "mmdebstrap", "diffoscope": "diffoscope-minimal"}
_PACKAGES = "ca-certificates,tzdata,nginx-light,python3,perl"
_LABEL = "goldsmith-benchmark-compare"
_ROUNDS = 3
_FLOOR, _MEMORY = 1.5, 150e6
_SIZES = (100_000, 1_000_000)


def main() -> int:
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        print(f"not installed: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 69
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as directory, _cleaned():
        met = _beside_peers(Path(directory))
        for entries in _SIZES:
            met += _alone(Path(directory), entries)
    print(f"\n{sum(met)} of {len(met)} goals met")
    return 0


@dataclass(frozen=True)
class _Run:
    """`seconds` of the whole process, `compared` of the comparison in it, `peak` in bytes, `named` what it found."""

    seconds: float
    compared: float = 0.0
    peak: int = 0
    named: tuple[tuple[str, str], ...] = ()


def _beside_peers(work: Path) -> list[bool]:
    golden, changed = _containers(work)
    inventory = work / "inventory"
    _child("inventory", golden, inventory)
    exports = [work / "golden.tar", work / "changed.tar"]
    for container, export in zip((golden, changed), exports, strict=True):
        _docker("export", "-o", str(export), container)

    floor, ours, diff = _in_turns(
        lambda: _Run(_timed(["docker", "export", changed])),
        lambda: _ours(changed, inventory),
        lambda: _docker_diff(changed),
    )
    diffoscope = _diffoscope(*exports)
    size = exports[1].stat().st_size / 1e6
    print(f"\n| {size:.0f} MB | seconds | of the floor | peak memory | findings | missed |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(f"| docker export, to nothing | {floor.seconds:.2f} | 1.00 | in the engine | | |")
    rows = {"ours": ours, "docker diff": diff, "diffoscope": diffoscope}
    missed = {name: _missed(run.named) for name, run in rows.items()}
    for name, run in rows.items():
        seconds = run.compared or run.seconds
        told = f"{run.peak / 1e6:.0f} MB" if run.peak else "in the engine"
        count = f"{len(missed[name])} of {len(PLANTED)}"
        ratio = seconds / floor.seconds
        print(f"| {name} | {seconds:.2f} | {ratio:.2f} | {told} | {len(run.named)} | {count} |")
    print(
        f"\nours, with the start of the program: {ours.seconds:.2f} s, {ours.seconds / floor.seconds:.2f} of the floor"
    )
    for name, changes in missed.items():
        print(f"{name} misses: {', '.join(changes) or 'nothing'}")
    planted = {pair for one in PLANTED for pair in shown_at(one).items()}
    exact = len(set(ours.named)) == len(ours.named) and planted.issuperset(ours.named)
    return [
        *_judged(ours, floor),
        _met(not missed["ours"], "nothing missed"),
        _met(exact, "each finding names a planted change, by its kind, and none is named twice"),
    ]


def _alone(work: Path, entries: int) -> list[bool]:
    tar, inventory = work / "small-files.tar", work / f"inventory-{entries}"
    with tar.open("wb") as out:
        write_small_files(out, entries)
    container = _created(_imported(tar))
    _child("inventory", container, inventory)
    floor, ours = _in_turns(lambda: _Run(_timed(["docker", "export", container])), lambda: _ours(container, inventory))
    print(f"\n| {entries:,} entries | seconds | of the floor | for 1,000 entries | peak memory |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| docker export, to nothing | {floor.seconds:.2f} | 1.00 | {floor.seconds / entries * 1e6:.1f} ms | |")
    print(
        f"| ours | {ours.compared:.2f} | {ours.compared / floor.seconds:.2f} |"
        f" {ours.compared / entries * 1e6:.1f} ms | {ours.peak / 1e6:.0f} MB |"
    )
    return [*_judged(ours, floor), _met(not ours.named, "an untouched container is identical")]


def _judged(ours: _Run, floor: _Run) -> Iterator[bool]:
    ratio = ours.compared / floor.seconds
    yield _met(ratio <= _FLOOR, f"{ratio:.2f} of the floor; the goal is {_FLOOR} at most")
    yield _met(ours.peak < _MEMORY, f"{ours.peak / 1e6:.0f} MB; the goal is less than {_MEMORY / 1e6:.0f} MB")


def _met(met: bool, said: str) -> bool:
    print(f"{'met' if met else 'missed'}: {said}")
    return met


def _missed(named: Sequence[tuple[str, str]]) -> list[str]:
    paths = {path for path, _ in named}
    return [one.name for one in PLANTED if not shown_at(one).keys() & paths]


def _in_turns(*measured: Callable[[], _Run]) -> list[_Run]:
    """Of each the run that took the middle of the times; what else runs weighs on all alike."""
    rounds = [[measure() for measure in measured] for _ in range(_ROUNDS)]
    return [_middle([one[at] for one in rounds]) for at in range(len(measured))]


def _middle(runs: Sequence[_Run]) -> _Run:
    return sorted(runs, key=lambda run: run.compared or run.seconds)[len(runs) // 2]


# What is measured


def _ours(container: str, inventory: Path) -> _Run:
    started = time.monotonic()
    found = _child("compare", container, inventory)
    named = tuple((str(path), str(kinds)) for path, kinds in found["named"])
    return _Run(time.monotonic() - started, found["seconds"], found["peak"], named)


def _docker_diff(container: str) -> _Run:
    """A path for each line; one with a line feed in it takes two."""
    started = time.monotonic()
    told = _docker("diff", container)
    lines = re.split(r"\n(?=[ACD] /)", told.rstrip("\n"))
    return _Run(time.monotonic() - started, named=tuple((line[3:], line[0]) for line in lines))


def _diffoscope(golden: Path, changed: Path) -> _Run:
    """Of its text what is told as changed: the members it opens, and lines of the listing that differ."""
    report = golden.parent / "diffoscope.txt"
    started = time.monotonic()
    argv = ["diffoscope", "--no-progress", "--text", str(report), str(golden), str(changed)]
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if child.returncode != 1:
        raise SystemExit(f"diffoscope ended with exit code {child.returncode}")
    lines = report.read_text("utf-8", "replace").splitlines()
    members = {line[4:].removeprefix("./") for line in lines if line.startswith("├── ")}
    listed = "\n".join(found[1] for line in lines if (found := re.match("[│ ]*│ [+-](.*)", line)))
    planted = (path for one in PLANTED for path in shown_at(one))
    in_listing = {path for path in planted if re.search(f"{re.escape(path)}(/?$| -> )", listed, re.MULTILINE)}
    return _Run(seconds, peak=used.ru_maxrss * 1024, named=tuple((name, "") for name in members | in_listing))


def _child(what: str, container: str, inventory: Path) -> dict[str, Any]:
    argv = [sys.executable, "-m", __name__, what, container, str(inventory)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def child(what: str, container: str, inventory: Path) -> dict[str, Any]:
    """In a process of its own: `inventory` writes one of the container, `compare` compares with it."""
    engine = docker.DockerClient(base_url=os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"), version="auto")
    started = time.monotonic()
    subject = ContainerSubject(engine, find_container(engine, container))
    digest = inventory.with_suffix(".digest")
    if what == "inventory":
        with subject.entries(inventory.parent) as entries:
            digest.write_text(write_inventory(list(entries), inventory).digest)
        return {}
    if digest_of_file(inventory) != digest.read_text():
        raise SystemExit("not the inventory that was written")
    with subject.entries(inventory.parent) as entries, open_inventory(inventory) as (_, records):
        outcome = compare(records, entries, judge=judge_with(shipped_rules()))
    named = [(one.difference.path.decode(), ",".join(one.difference.kinds)) for one in outcome.findings]
    seconds = time.monotonic() - started
    # Not getrusage's, which a process has from the one that started it.
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return {"seconds": seconds, "peak": peak, "named": named}


# Containers


def _containers(work: Path) -> tuple[str, str]:
    """A golden one, untouched, and one of the same image with everything planted."""
    tar, sources = work / "base.tar", work / "sources.list"
    sources.write_text(find_mirrors(None, None).sources("trixie", ["main"]))
    _timed(["mmdebstrap", "--variant=apt", f"--include={_PACKAGES}", "trixie", str(tar), str(sources)])
    first = _running(_imported(tar))
    _in(first, GOLDEN)
    image = _docker("commit", "--change", f"LABEL {_LABEL}=", first).strip()
    changed = _running(image)
    time.sleep(2)  # what is changed long after looks so, for peers that go by times
    _in(changed, PLANT)
    return _running(image), changed


def _imported(tar: Path) -> str:
    return _docker("import", "--change", f"LABEL {_LABEL}=", str(tar)).strip()


def _created(image: str) -> str:
    return _docker("create", "--label", _LABEL, "--network", "none", image, "/nothing").strip()


def _running(image: str) -> str:
    return _docker("run", "--detach", "--label", _LABEL, "--network", "none", image, "sleep", "infinity").strip()


def _in(container: str, script: str) -> None:
    # Without a home there is no place for Python to leave compiled files of its own.
    _docker("exec", "--interactive", container, "python3", "-B", "-", stdin=script)


@contextmanager
def _cleaned() -> Iterator[None]:
    try:
        yield
    finally:
        for container in _docker("ps", "--all", "--quiet", "--filter", f"label={_LABEL}").split():
            _docker("rm", "--force", container)
        for image in _docker("images", "--all", "--quiet", "--filter", f"label={_LABEL}").split():
            subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)


def _docker(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(["docker", *argv], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker {argv[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


def _timed(argv: Sequence[str]) -> float:
    started = time.monotonic()
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv[0]} failed: {done.stderr[-2000:]}")
    return time.monotonic() - started


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
