"""Several processes use one store of packages while others trim it: nobody ever has half a file or the wrong one."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.planning.debs import DebStore, MaterialMissing
from builder.planning.flat import write_flat_archive
from builder.planning.lock import LockedPackage
from tests.unit.test_planning_debs import CONTROL, make_deb

SECONDS = 6.0
PACKAGES = 120

Counts = Counter[str]


@dataclass(frozen=True)
class Shelf:
    """Where the store is, and the packages that can be had, each with the file it comes from."""

    store: Path
    packages: list[tuple[Path, LockedPackage]]

    @property
    def size(self) -> int:
        return self.packages[0][1].size


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    found = []
    for number in range(PACKAGES):
        path = tmp_path / f"{number}.deb"
        sha256 = make_deb(path, CONTROL, time=str(number).encode())
        size = path.stat().st_size
        found.append((path, LockedPackage(name="hello", version="1", architecture="all", size=size, sha256=sha256)))
    return Shelf(tmp_path / "debs", found)


def build(shelf: Shelf, seed: int, keep_seconds: float, until: float) -> Counts:
    """Have three packages and make an archive of them, again and again, as a build does."""
    store, choose, counts = DebStore(shelf.store), random.Random(seed), Counts()
    while time.time() < until:
        chosen = choose.sample(shelf.packages, 3)
        asked = time.time()
        with tempfile.TemporaryDirectory(dir=shelf.store.parent) as work:
            try:
                for path, package in chosen:
                    if not store.has(package.sha256):
                        store.add(path, package.sha256)
                        counts["added"] += 1
                write_flat_archive(Path(work), [package for _, package in chosen], store)
            except MaterialMissing:
                # The promise is for so long, counted from the question.
                counts["broken promises" if time.time() - asked < keep_seconds else "missing"] += 1
                continue
            for path, package in chosen:
                assert (Path(work) / f"{package.sha256}.deb").read_bytes() == path.read_bytes()
            counts["archives"] += 1
    return counts


def trim(shelf: Shelf, limit: int, keep_seconds: float, until: float) -> Counts:
    store, counts = DebStore(shelf.store), Counts()
    while time.time() < until:
        counts["evicted"] += store.trim(limit, keep_seconds=keep_seconds)
        time.sleep(0.005)
    return counts


def _work(answers: multiprocessing.Queue[object], work: Callable[..., Counts], *arguments: object) -> None:
    try:
        # From here on: on a busy machine a process takes seconds to begin.
        answers.put(work(*arguments, time.time() + SECONDS))
    except BaseException as error:
        answers.put(repr(error))


@pytest.mark.parametrize("keep_seconds", [0.0, 0.5])
def test_workers_that_trim_and_workers_that_build_share_a_store(shelf: Shelf, keep_seconds: float) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[object] = context.Queue()
    limit = 30 * shelf.size
    jobs: list[tuple[object, ...]] = [(build, shelf, seed, keep_seconds) for seed in range(3)]
    jobs += [(trim, shelf, limit, keep_seconds)] * 2
    workers = [context.Process(target=_work, args=(answers, *job)) for job in jobs]
    for worker in workers:
        worker.start()
    counts = Counts()
    for _ in workers:
        found = answers.get(timeout=60)
        assert isinstance(found, Counter), found
        counts += found
    for worker in workers:
        worker.join(30)
    assert counts["archives"] > 5
    assert counts["evicted"] > limit
    assert counts["added"] > PACKAGES
    assert counts["broken promises"] == 0
    store = DebStore(shelf.store)
    store.trim(limit, keep_seconds=0)
    kept = list(shelf.store.iterdir())
    assert sum(path.stat().st_size for path in kept) <= limit
    assert {path.suffix for path in kept} <= {".deb"}
    for _, package in shelf.packages:
        if store.has(package.sha256):
            store.verified(package)
