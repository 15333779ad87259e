"""The ledger with a million entries: appends, proofs, a record found by its digest, and the whole check.

On SQLite and on PostgreSQL, both with their usual care for the disk. A million records are there before the tree is:
the migration plants it over them, which is measured. Then a thousand are appended as releases do, each in a transaction
of its own. Records are of 1 kB; a real release's is larger, and is hashed once more when the whole ledger is checked.
Proofs and searches are made in a session of their own each. The whole check is `goldsmith ledger verify`, in a process
of its own, with `--database` and through the API; over a hundredth of the entries it shows what memory grows with.

Goals: a proof in 50 ms, the whole check of a million entries in 5 minutes, in at most 250 MB.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from builder.ledger import checkpoints, stored
from builder.ledger.checkpoint import Checkpoint
from builder.ledger.record import LedgerRecord, append
from builder.ledger.serving import index_of, prove_consistency, signed_proof
from builder.ledger.signing import LedgerKey, generate_key
from builder.store.database import Database
from builder.store.keys import create_key
from builder.store.schema import Build, Record
from tests.unit.databases import running_postgresql

_ENTRIES = int(os.environ.get("GOLDSMITH_BENCH_ENTRIES", "1000000"))
_BEFORE = "0004"
_TOGETHER = 1000
_ASKED = 1000
_ORIGIN = "bench.example/ledger"
_SECONDS, _PROOF_SECONDS, _MEMORY = 300.0, 0.05, 250e6


class _Record(LedgerRecord):
    format: str = "goldsmith-bench-record/v1"
    filling: str


@dataclass(frozen=True)
class _Run:
    """Seconds, and bytes of memory at the most."""

    seconds: float
    memory: int


def main() -> int:
    print(f"load {os.getloadavg()[0]:.1f}, {_ENTRIES:,} entries")
    with (
        tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as directory,
        running_postgresql(durable=True) as cluster,
    ):
        work = Path(directory)
        generate_key(work / "key")
        key = LedgerKey.load(work / "key", _ORIGIN)
        sqlite = _measure("SQLite", lambda name: f"sqlite:///{work / name}", key, work)
        postgresql = _measure("PostgreSQL", cluster.create, key, work)
    return 0 if sqlite and postgresql else 1


def _measure(name: str, create: Callable[[str], str], key: LedgerKey, work: Path) -> bool:
    few = _measured_few(create("few"), key, work)
    url = create("many")
    database = Database(url)
    planted = _plant(database, _ENTRIES)
    alone = _appended_alone(database)
    _sign(database, key)
    times = _asked(database)
    whole = _check(url, key, work, "--database")
    with _api(database, url, work) as environment:
        followed = _check(url, key, work, **environment)
    database.close()
    print(f"\n| {name}, {_ENTRIES + _ASKED:,} entries | |\n| --- | --- |")
    print(f"| a million records planted by the migration | {planted:.0f} s |")
    print(f"| append, each in its own transaction | {median(alone) * 1e3:.1f} ms, {1 / median(alone):.0f} a second |")
    for what, found in times.items():
        last = found[len(found) * 99 // 100]
        print(f"| {what}, median and 99 of 100 | {median(found) * 1e3:.1f} ms, {last * 1e3:.1f} ms |")
    for what, run in {
        "whole check, `--database`": whole,
        "whole check, by tiles through the API": followed,
        f"`--database`, {_ENTRIES // 100:,} entries": few,
    }.items():
        print(f"| {what} | {run.seconds:.1f} s, {run.memory / 1e6:.0f} MB |")
    slowest, largest = max(whole.seconds, followed.seconds), max(whole.memory, followed.memory)
    met = slowest <= _SECONDS and largest <= _MEMORY and median(times["inclusion proof"]) <= _PROOF_SECONDS
    print(f"\n{'met' if met else 'missed'}; load {os.getloadavg()[0]:.1f}", flush=True)
    return met


def _measured_few(url: str, key: LedgerKey, work: Path) -> _Run:
    database = Database(url)
    _plant(database, _ENTRIES // 100)
    _sign(database, key)
    database.close()
    return _check(url, key, work, "--database")


def _asked(database: Database) -> dict[str, list[float]]:
    chosen, size = random.Random(6962), _ENTRIES + _ASKED  # noqa: S311
    numbers = [chosen.randint(1, size) for _ in range(_ASKED)]
    with database.read() as session:
        query = select(Record.digest).where(Record.number.in_(numbers))
        digests = iter(list(session.scalars(query)) * 2)

    def inclusion(session: Session) -> object:
        return signed_proof(session, chosen.randrange(size))

    def consistency(session: Session) -> object:
        return prove_consistency(session, chosen.randint(1, size), size)

    def search(session: Session) -> object:
        return index_of(session, next(digests))

    def timed(ask: Callable[[Session], object]) -> list[float]:
        def once() -> None:
            with database.read() as session:
                ask(session)

        return sorted(_seconds(once) for _ in range(_ASKED))

    asked = {"inclusion proof": inclusion, "consistency proof": consistency, "record found by digest": search}
    return {what: timed(ask) for what, ask in asked.items()}


def _plant(database: Database, count: int) -> float:
    """Records as they were before there was a tree, and the seconds that the migration then takes."""
    database.migrate(_BEFORE)
    for first in range(0, count, _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, count))
        with database.write() as session:
            session.execute(insert(Build), [_build(number) for number in numbers])
            session.execute(insert(Record), [_row(number) for number in numbers])
    return _seconds(database.migrate)


def _row(number: int) -> dict[str, object]:
    record = _record(number)
    body = record.canonical()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    found = {"build_id": record.build_id, "image_digest": record.image_digest, "digest": digest, "body": body}
    return {**found, "recorded_at": 1.7e9 + number}


def _appended_alone(database: Database) -> list[float]:
    numbers = range(_ENTRIES, _ENTRIES + _ASKED)
    with database.write() as session:
        session.execute(insert(Build), [_build(number) for number in numbers])

    def one(number: int) -> Callable[[], None]:
        def added() -> None:
            with database.write() as session:
                append(session, _record(number))

        return added

    return sorted(_seconds(one(number)) for number in numbers)


def _record(number: int) -> _Record:
    return _Record(build_id=f"{number:026}", image_digest=f"sha256:{number:064x}", filling=f"{number:08}" * 100)


def _build(number: int) -> dict[str, object]:
    return {
        "id": f"{number:026}", "purpose": "release", "state": "released", "recipe_name": "web", "recipe_digest": "d",
        "recipe": "{}", "origin": "request", "requester": "ci", "attempt": 1, "token": 0, "cancel_requested": False,
        "options": {}, "evidence": {}, "created_at": 1.0, "updated_at": 1.0,
    }  # fmt: skip


def _sign(database: Database, key: LedgerKey) -> None:
    with database.write() as session:
        head = stored.head(session)
        checkpoints.keep(session, key.sign(Checkpoint(key.origin, head.size, head.root())), key.verifier)


def _seconds(work: Callable[[], None]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _check(url: str, key: LedgerKey, work: Path, *more: str, **environment: str) -> _Run:
    command = [sys.executable, "-m", "builder.cli", "ledger", "verify", "--json", "--ledger-key", str(key.verifier)]
    begun = time.monotonic()
    child = subprocess.Popen(
        [*command, *more], env=_environment(url, work, environment), stdout=subprocess.PIPE, text=True
    )
    told = child.stdout.read() if child.stdout else ""
    _, status, usage = os.wait4(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, told
    assert json.loads(told)["intact"]
    return _Run(time.monotonic() - begun, usage.ru_maxrss * 1024)


@contextmanager
def _api(database: Database, url: str, work: Path) -> Iterator[dict[str, str]]:
    """The API alone; what a client needs to know of it."""
    with database.write() as session:
        key = create_key(session, "bench")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "builder.api.app:create_app", "--port", str(port),
               "--log-level", "warning"]  # fmt: skip
    server = subprocess.Popen(command, env=_environment(url, work, {}))
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield {"GOLDSMITH_URL": f"http://127.0.0.1:{port}", "GOLDSMITH_API_KEY": key}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def _environment(url: str, work: Path, more: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")}
    return {**own, "GOLDSMITH_DATABASE_URL": url, "GOLDSMITH_STATE_DIRECTORY": str(work), "HOME": str(work), **more}


if __name__ == "__main__":
    raise SystemExit(main())
