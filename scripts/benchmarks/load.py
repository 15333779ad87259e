"""Ten thousand queued builds through four workers with an engine that makes nothing, while processes are killed.

All else is real: PostgreSQL that waits for the disk, Redis, the dispatcher, Celery's workers, claims, leases, steps,
logs, the ledger. Every few seconds the process that works in one of the workers, or the dispatcher, is killed with
signal 9. At the end no build may be lost or doubled: each is released with one release, one record and one leaf.

CPU time is of the workers and the dispatcher, the killed ones included; that of PostgreSQL and Redis stands beside it.
GOLDSMITH_BENCH_BUILDS says how many builds. Goal: under 100 ms of CPU a build.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from sqlalchemy import func, select

from builder.recipes.reading import canonical_json, read_recipe, recipe_digest
from builder.store import builds
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.schema import Build, LedgerLeaf, Record, Release
from builder.store.states import FINAL, State
from scripts.stack.services import ROOT
from tests.unit.databases import running_postgresql

_BUILDS = int(os.environ.get("GOLDSMITH_BENCH_BUILDS", "10000"))
_WORKERS = 4
_KILL_SECONDS = (8.0, 20.0)
_GOAL = 0.1
_RECIPE = read_recipe(
    "apiVersion: goldsmith/v1\nkind: Image\nmetadata: {name: load}\n"
    "spec:\n  base: {debian: {suite: trixie}}\n  publish: {repository: bench/load}\n"
)


class _Service:
    """The processes, started again when they die."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self._environment = environment
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.kills: Counter[str] = Counter()

    def keep_running(self) -> None:
        for name in ("dispatcher", *(f"worker-{number}" for number in range(_WORKERS))):
            process = self._running.get(name)
            if process is None or process.poll() is not None:
                self._running[name] = self._start(name)

    def kill_one(self, chance: random.Random) -> None:
        name = chance.choice(list(self._running))
        process = self._running[name]
        victims = [process.pid] if name == "dispatcher" else _children(process.pid)
        for victim in victims[:1]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                self.kills[name.partition("-")[0]] += 1

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "workers.dispatcher"] if name == "dispatcher" else [
            sys.executable, "-m", "celery", "-A", "scripts.benchmarks.testengine", "worker", "-Q",
            "build,scan,release", "-c", "1", "-n", f"{name}@%h", "--loglevel", "warning", "--without-gossip",
            "--without-mingle",
        ]  # fmt: skip
        with (self._logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(argv, env=self._environment, cwd=ROOT, stdout=log, stderr=log)


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="goldsmith-load-") as directory,
        running_postgresql(durable=True) as cluster,
    ):
        state = Path(directory)
        url = cluster.create("load")
        database = Database(url)
        database.migrate()
        redis, port = _redis(state)
        environment = {
            **os.environ,
            "GOLDSMITH_DATABASE_URL": url,
            "GOLDSMITH_REDIS_URL": f"redis://127.0.0.1:{port}/0",
            "GOLDSMITH_STATE_DIRECTORY": str(state / "state"),
            "GOLDSMITH_LEASE_SECONDS": "10",
            "GOLDSMITH_MAXIMUM_ATTEMPTS": "10",
            "GOLDSMITH_RESCAN_MINUTES": "0",
        }
        ids = _submit(database)
        print(f"{_BUILDS} builds are queued")
        service, chance = _Service(environment, state), random.Random(1)  # noqa: S311
        started = time.monotonic()
        next_kill, next_line = started + 5, started + 30
        try:
            while (left := _left(database)) > 0:
                service.keep_running()
                now = time.monotonic()
                if now > next_kill:
                    service.kill_one(chance)
                    next_kill = now + chance.uniform(*_KILL_SECONDS)
                if now > next_line:
                    print(f"  {now - started:5.0f} s: {left} left, {sum(service.kills.values())} kills", flush=True)
                    next_line = now + 30
                time.sleep(0.5)
            seconds = time.monotonic() - started
            servers = _cpu(redis.pid)
        finally:
            service.stop()
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            redis.terminate()
            redis.wait()
        return _told(database, ids, seconds, used.ru_utime + used.ru_stime, servers, service.kills)


def _submit(database: Database) -> set[str]:
    asked = Submission("load", recipe_digest(_RECIPE), canonical_json(_RECIPE).decode(), "request", "bench")
    found: set[str] = set()
    while len(found) < _BUILDS:
        with database.write() as session:
            found |= {builds.submit(session, asked).id for _ in range(min(500, _BUILDS - len(found)))}
    return found


def _left(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Build).where(Build.state.not_in(FINAL))) or 0


def _told(database: Database, ids: set[str], seconds: float, cpu: float, redis: float, kills: Counter[str]) -> int:
    with database.read() as session:
        states = Counter(dict(session.execute(select(Build.state, func.count()).group_by(Build.state)).tuples().all()))
        attempts = session.scalar(select(func.sum(Build.attempt - 1))) or 0
        released = list(session.scalars(select(Release.build_id)))
        recorded = list(session.scalars(select(Record.build_id)))
        leaves = session.scalar(select(func.count()).select_from(LedgerLeaf))
    database.close()
    whole = states == {State.RELEASED: len(ids)} and sorted(released) == sorted(recorded) == sorted(ids)
    each = cpu / len(ids)
    print(f"{len(ids)} builds in {seconds:.0f} s, {len(ids) / seconds:.1f} a second, {_WORKERS} workers")
    print(f"killed: {dict(kills)}; {attempts} attempts more")
    print(f"ended: {dict(states)}; {len(released)} releases, {len(recorded)} records, {leaves} leaves")
    print(f"CPU a build: {each * 1000:.0f} ms in workers and dispatcher; Redis {redis / len(ids) * 1000:.1f} ms")
    good = whole and leaves == len(ids) and each < _GOAL
    print("met" if good else "MISSED", f": none lost, none doubled, under {_GOAL * 1000:.0f} ms")
    return 0 if good else 1


def _redis(state: Path) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(state), "--save", "",
            "--appendonly", "yes", "--maxmemory-policy", "noeviction"]  # fmt: skip
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, port
        time.sleep(0.05)
    raise SystemExit("redis-server did not start")


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
