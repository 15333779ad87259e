"""Auditors' questions on a million releases: by package, requester and month, recipe, vulnerability and image.

On SQLite and on PostgreSQL. The releases are of 20,000 images with 90 packages each, over a year; the questions are
those of `goldsmith releases`, each asked anew twenty times in a session of its own, the first page of fifty. An export
reads a month whole.

Goal: each answer in well under a second: 0.5 s.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from builder.store import provenance
from builder.store.components import Contained, PackageWanted
from builder.store.database import Database
from builder.store.provenance import Place, ReleasesWanted
from builder.store.schema import Build, Component, Finding, ImageComponent, KnownImage, Record, Release
from tests.unit.databases import running_postgresql

_RELEASES = int(os.environ.get("GOLDSMITH_BENCH_ENTRIES", "1000000"))
_IMAGES = _RELEASES // 50
_NAMES, _VERSIONS, _PACKAGES = 1000, 10, 90
_REQUESTERS, _RECIPES = 200, 50
_YEAR = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
_DAY = 86400.0
_ASKED, _PAGE = 20, 50
_TOGETHER = 10_000
_SECONDS = 0.5


def main() -> int:
    print(f"load {os.getloadavg()[0]:.1f}, {_RELEASES:,} releases of {_IMAGES:,} images")
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as work:
        met = _measure("SQLite", Database(f"sqlite:///{Path(work) / 'goldsmith.db'}"))
    with running_postgresql() as cluster:
        met = _measure("PostgreSQL", Database(cluster.create("bench"))) and met
    print(f"\n{'met' if met else 'missed'}: each answer in {_SECONDS:g} s")
    return 0


def _measure(name: str, database: Database) -> bool:
    database.migrate()
    begun = time.monotonic()
    with database.write() as session:
        _fill(session)
    print(f"\nfilled {name} in {time.monotonic() - begun:.0f} s\n\n| {name} | median | slowest | found |")
    print("| --- | --- | --- | --- |")
    slowest = 0.0
    for question, ask in _questions(random.Random(42)).items():  # noqa: S311
        times, found = [], 0
        for _ in range(_ASKED):
            wanted, after = ask()
            begun = time.monotonic()
            with database.read() as session:
                found = len(provenance.page(session, wanted, after=after, limit=_PAGE))
            times.append(time.monotonic() - begun)
        slowest = max(slowest, *times)
        print(f"| {question} | {median(times) * 1000:.1f} ms | {max(times) * 1000:.1f} ms | {found} |")
    begun = time.monotonic()
    rows = sum(1 for _ in provenance.every(database, _month(3)))
    print(f"| a whole month, to be exported | {time.monotonic() - begun:.1f} s | | {rows:,} |")
    database.close()
    return slowest <= _SECONDS


def _questions(chosen: random.Random) -> dict[str, Callable[[], tuple[ReleasesWanted, Place | None]]]:
    def package() -> PackageWanted:
        return PackageWanted(f"package-{chosen.randrange(1, _NAMES)}", f"1.{chosen.randrange(_VERSIONS)}")

    def month() -> ReleasesWanted:
        return _month(chosen.randrange(12), requester=f"person-{chosen.randrange(_REQUESTERS)}")

    def deep() -> Place:
        return Place(_YEAR + chosen.random() * 365 * _DAY, "0" * 26)

    return {
        "which images contain this version of a package": lambda: (ReleasesWanted(package=package()), None),
        "a version that every tenth image has": lambda: (ReleasesWanted(package=PackageWanted("openssl", "1.7")), None),
        "a version that none has": lambda: (ReleasesWanted(package=PackageWanted("openssl", "9")), None),
        "what did this person release in March": lambda: (month(), None),
        "one recipe with one package": lambda: (
            ReleasesWanted(recipe=f"recipe-{chosen.randrange(_RECIPES)}", package=package()),
            None,
        ),
        "images with a vulnerability": lambda: (ReleasesWanted(finding=f"CVE-2026-{chosen.randrange(1000)}"), None),
        "one image": lambda: (ReleasesWanted(digest=_digest(chosen.randrange(_IMAGES))), None),
        "a page from anywhere": lambda: (ReleasesWanted(), deep()),
    }


def _month(number: int, requester: str | None = None) -> ReleasesWanted:
    since = _YEAR + number * 30 * _DAY
    return ReleasesWanted(requester=requester, since=since, until=since + 30 * _DAY)


def _digest(number: int) -> str:
    return f"sha256:{number:064x}"


def _fill(session: Session) -> None:
    chosen = random.Random(1)  # noqa: S311
    names = ["openssl", *(f"package-{number}" for number in range(1, _NAMES))]
    packages = [
        Contained(name, f"1.{version}-1", name, f"pkg:deb/debian/{name}@1.{version}-1")
        for name in names
        for version in range(_VERSIONS)
    ]
    _put(
        session,
        Component,
        ({"id": n, "name": p.name, "version": p.version, "source": p.source, "purl": p.purl, "upstream": p.upstream}
         for n, p in enumerate(packages)),
    )  # fmt: skip
    _put(session, KnownImage, ({"id": number, "digest": _digest(number)} for number in range(_IMAGES)))
    _put(session, ImageComponent, _contents(chosen))
    _put(session, Finding, _findings(chosen))
    for start in range(0, _RELEASES, _TOGETHER):
        some = range(start, min(start + _TOGETHER, _RELEASES))
        _put(session, Build, (_build(number) for number in some))
        releases = [_release(number, chosen) for number in some]
        _put(session, Release, releases)
        _put(session, Record, (_record(one) for one in releases))


def _contents(chosen: random.Random) -> Iterator[dict[str, Any]]:
    """Each image has openssl, and others, in a version of its own each."""
    for image in range(_IMAGES):
        for name in [0, *chosen.sample(range(1, _NAMES), _PACKAGES - 1)]:
            yield {"image_id": image, "component_id": name * _VERSIONS + chosen.randrange(_VERSIONS)}


def _findings(chosen: random.Random) -> Iterator[dict[str, Any]]:
    for image in range(_IMAGES):
        for number in chosen.sample(range(1000), 15):
            yield {
                "image_digest": _digest(image),
                "recipe_name": f"recipe-{image % _RECIPES}",
                "package": "openssl",
                "vulnerability": f"CVE-2026-{number}",
                "installed": "1.0",
                "severity": "LOW",
                "first_seen": _YEAR,
                "last_seen": _YEAR,
                "database_digest": _digest(0),
                "above_policy": False,
                "since_release": False,
            }


def _build(number: int) -> dict[str, Any]:
    return {
        "id": f"{number:026d}",
        "state": "released",
        "recipe_name": f"recipe-{number % _RECIPES}",
        "recipe_digest": _digest(0),
        "recipe": "{}",
        "origin": "request",
        "requester": "",
        "attempt": 1,
        "token": 0,
        "cancel_requested": False,
        "created_at": _YEAR,
        "updated_at": _YEAR,
        "evidence": {},
    }


def _release(number: int, chosen: random.Random) -> dict[str, Any]:
    image = number % _IMAGES
    return {
        "build_id": f"{number:026d}",
        "digest": _digest(image),
        "recipe_name": f"recipe-{image % _RECIPES}",
        "recipe_digest": _digest(0),
        "registry_host": "registry.example",
        "repository": "golden/x",
        "tags": ["1"],
        "released_at": _YEAR + number * 365 * _DAY / _RELEASES,
        "requester": f"person-{chosen.randrange(_REQUESTERS)}",
    }


def _record(release: dict[str, Any]) -> dict[str, Any]:
    return {
        "build_id": release["build_id"],
        "image_digest": release["digest"],
        "digest": _digest(0),
        "body": b"{}",
        "recorded_at": release["released_at"],
    }


def _put(session: Session, table: type, rows: Iterable[dict[str, Any]]) -> None:
    left = iter(rows)
    while some := list(islice(left, _TOGETHER)):
        session.execute(insert(table), some)
