"""The API under load: submissions, conditional reads by digest, 500 followers of live logs, and its memory.

On SQLite and on PostgreSQL, which wait for the disk as they do in earnest; one process, then two (`--workers`).
Submissions are of the shipped `web`, by name: 100 a second for 20 s from a clock of their own, so that a slow answer
delays no other request but counts; then as many as go through, by wrk. Reads are of a signed provenance that the
caller has already (`If-None-Match`), by wrk; each is in the audit log before it is answered. Followers are
told of lines that a played worker writes, to ten builds, two a second each.

Goals: p99 under 50 ms at 100 submissions a second, 2,000 conditional reads a second, each process under 200 MB.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import httpx
from sqlalchemy import func, select

from builder.errors import Problem
from builder.store import attachments
from builder.store.attachments import Kind
from builder.store.callers import AuditEntry
from builder.store.database import Database
from builder.store.schema import Build
from builder.store.states import BUILD, State
from scripts.benchmarks.requests import Followers, at_a_rate, flood
from scripts.benchmarks.serving import Served, served
from tests.unit.cli_server import IMAGE, Worker
from tests.unit.databases import running_postgresql

_RATE, _SECONDS = 100, 20
_FOLLOWERS, _FOLLOWED, _LINES = 500, 10, 20
_NO_MORE = Problem(type="/problems/cancelled", title="Cancelled", status=409, detail="the benchmark is over")
_P99, _READS, _MEMORY = 0.050, 2000, 200


def main() -> int:
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    met = True
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as work, running_postgresql(durable=True) as cluster:
        for processes in (1, 2):
            urls = {
                "SQLite": f"sqlite:///{Path(work) / f'{processes}.db'}",
                "PostgreSQL": cluster.create(f"bench{processes}"),
            }
            for name, url in urls.items():
                with served(url, Path(work) / name / str(processes), processes=processes) as api:
                    met &= _measure(f"{name}, {processes} process{'es' * (processes > 1)}", api)
    print(f"\n{'met' if met else 'missed'}: p99 under 50 ms, 2,000 reads a second, under 200 MB")
    return 0


def _measure(name: str, api: Served) -> bool:
    _released(api)
    print(
        f"\n| {name} | a second | median | p99 | processor | each | load |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    idle = max(api.memory())
    kept = _submissions(api)
    read = _reads(api)
    kept &= read
    _followers(api)
    peaks = api.memory()
    print(f"| memory of each process: {idle} MB at first, at most {', '.join(map(str, peaks))} MB | | | | | | |")
    return kept and max(peaks) < _MEMORY


def _submissions(api: Served) -> bool:
    body = b'{"recipe": "web"}'
    request = (
        f"POST /v1/builds HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {api.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    before, begun = api.seconds(), time.monotonic()
    found = at_a_rate(api.port, request, rate=_RATE, seconds=_SECONDS)
    took = time.monotonic() - begun
    assert set(found.statuses) == {202}, found.statuses
    _row("submissions at 100 a second", len(found.latencies) / took, found.percentile(0.5), found.percentile(0.99),
         (api.seconds() - before) / took)  # fmt: skip
    before, begun = api.seconds(), time.monotonic()
    most = flood(f"{api.url}/v1/builds", api.headers, body=body.decode(), connections=16)
    assert not most.errors, most
    late = f", {most.late} of them in more than 2 s" if most.late else ""
    _row(f"submissions, as many as go{late}", most.rate, most.p50, most.p99, (api.seconds() - before) / 10)
    return found.percentile(0.99) < _P99


def _reads(api: Served) -> bool:
    path = f"/v1/images/{IMAGE}/provenance"
    answer = httpx.get(api.url + path, headers=api.headers, trust_env=False)
    headers = {**api.headers, "If-None-Match": answer.headers["etag"]}
    assert httpx.get(api.url + path, headers=headers, trust_env=False).status_code == 304
    written, before = _audited(api.database), api.seconds()
    found = flood(api.url + path, headers, connections=64)
    _row("conditional reads, as many as go", found.rate, found.p50, found.p99, (api.seconds() - before) / 10)
    assert not found.errors, found
    assert not found.late, found
    # Those that were under way when wrk ended were written, too.
    assert _audited(api.database) - written >= found.rate * 10 * 0.98, "an answer went out unwritten"
    return found.rate >= _READS


def _followers(api: Served) -> None:
    with api.database.read() as session:
        builds = list(session.scalars(select(Build.id).where(Build.state == "queued").limit(_FOLLOWED)))
    workers = [Worker(api.database, build).take(BUILD) for build in builds]
    followers = Followers(api.port, api.key, builds, _FOLLOWERS)
    before, begun = api.seconds(), time.monotonic()
    following = threading.Thread(target=followers.run, args=(90,))
    following.start()
    while followers.open < _FOLLOWERS and time.monotonic() - begun < 60:
        time.sleep(0.1)
    opened = time.monotonic() - begun
    for _ in range(_LINES):
        for worker in workers:
            worker.log("packages", f"at {time.time()}")
        time.sleep(0.5)
    time.sleep(2)
    for worker in workers:
        worker.end(State.CANCELLED, _NO_MORE)
    following.join()
    took = time.monotonic() - begun
    delays = sorted(followers.delays)
    _row(
        f"{followers.open} followers (open after {opened:.1f} s, {followers.ended} told of the end), lines",
        len(delays) / took, delays[len(delays) // 2], delays[len(delays) * 99 // 100], (api.seconds() - before) / took,
    )  # fmt: skip
    assert followers.lines == [_LINES] * _FOLLOWERS, "a line did not arrive, or twice"


def _row(what: str, rate: float, p50: float, p99: float, processor: float) -> None:
    print(
        f"| {what} | {rate:,.0f} | {p50 * 1000:.1f} ms | {p99 * 1000:.1f} ms | {processor:.0%} "
        f"| {processor / rate * 1000:.2f} ms | {os.getloadavg()[0]:.1f} |",
        flush=True,
    )


def _released(api: Served) -> None:
    """An image whose provenance can be read. Its base is of a digest: nobody waits for another."""
    answer = httpx.post(f"{api.url}/v1/builds", json={"recipe": "debian"}, headers=api.headers, trust_env=False)
    worker = Worker(api.database, answer.json()["id"])
    worker.release()
    worker.attach(Kind.PROVENANCE, "application/vnd.dev.sigstore.bundle.v0.3+json", b"{}" * 4000)
    with api.database.read() as session:
        assert attachments.of_image(session, IMAGE, Kind.PROVENANCE)


def _audited(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(AuditEntry)) or 0
