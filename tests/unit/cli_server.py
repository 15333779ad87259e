"""A real API over SQLite in a thread, and workers played by writing what they would write, for tests of its clients."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import select

from builder.api.app import create_app
from builder.errors import Problem
from builder.pipeline.evidence import Plan, RebuildEvidence, ReleaseEvidence, ScanEvidence, Unchanged, kept
from builder.planning.keys import build_key
from builder.planning.lock import Lock
from builder.policy.verdict import Verdict
from builder.registry.reference import Repository
from builder.scanning.findings import DatabaseIdentity, Findings, ScannerIdentity, Severity, Vulnerability
from builder.settings import Settings
from builder.store import attachments, builds, journal, keys
from builder.store.attachments import Kind
from builder.store.builds import Claim
from builder.store.database import Database
from builder.store.schema import Build, Release
from builder.store.states import BUILD, PLAN, REBUILD, RELEASE, RESOLVE, SCAN, Stage, State
from tests.unit import evidence as finished
from tests.unit import locks

IMAGE = "sha256:" + "5c" * 32
OTHER = "sha256:" + "0a" * 32
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

BASE_RECIPE = """apiVersion: goldsmith/v1
kind: Image
metadata: {name: base}
spec:
  base: {debian: {suite: trixie}}
  publish: {repository: golden/base}
"""
WEB_RECIPE = """apiVersion: goldsmith/v1
kind: Image
metadata: {name: web, description: A web server, version: "1.0"}
spec:
  base: {image: "registry.example/base@sha256:%s"}
  packages: [nginx-light]
  publish: {repository: golden/web, tags: [latest, "1.0"]}
""" % ("0b" * 32)
LAYERED_RECIPE = """apiVersion: goldsmith/v1
kind: Image
metadata: {name: layered}
spec:
  base: {recipe: base}
  publish: {repository: golden/layered}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Api:
    """A running API: where it is, a key for it, and its database, for playing the workers."""

    url: str
    key: str
    database: Database
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"GOLDSMITH_URL": self.url, "GOLDSMITH_API_KEY": self.key}

    def newest(self, recipe: str, within: float = 10.0) -> str:
        """The id of the newest build of a recipe, once there is one."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with self.database.read() as session:
                found = session.scalars(
                    select(Build).where(Build.recipe_name == recipe).order_by(Build.id.desc())
                ).first()
                if found is not None:
                    return str(found.id)
            time.sleep(0.05)
        raise AssertionError(f"no build of {recipe} came in")

    def worker(self, build_id: str) -> Worker:
        return Worker(self.database, build_id)


class Worker:
    """Plays the workers of one build: takes stages, begins and ends steps, writes log lines, hands on."""

    def __init__(self, database: Database, build_id: str) -> None:
        self._database = database
        self._build_id = build_id
        self._claim: Claim | None = None

    def take(self, stage: Stage, within: float = 5.0) -> Worker:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with self._database.write() as session:
                self._claim = builds.claim(session, self._build_id, stage, "a worker", 60)
            if self._claim is not None:
                return self
            time.sleep(0.05)
        raise AssertionError(f"the build is not ready for {stage.queue}")

    def begin(self, name: str, *lines: str) -> int:
        with self._database.write() as session:
            step = journal.begin_step(session, self._build_id, 1, name)
        self.log(name, *lines)
        return step

    def finish(self, step: int, summary: str = "", state: str = "done") -> None:
        with self._database.write() as session:
            journal.finish_step(session, step, state, summary)

    def log(self, step: str, *lines: str) -> None:
        with self._database.write() as session:
            token = builds.get(session, self._build_id).token
            told = [journal.Line(time.time(), step, line) for line in lines]
            assert journal.append_log(session, self._build_id, told, token=token)

    def step(self, name: str, *lines: str, summary: str = "") -> Worker:
        self.finish(self.begin(name, *lines), summary)
        return self

    def hand_on(self, **evidence: Any) -> None:
        assert self._claim is not None
        with self._database.write() as session:
            builds.complete(session, self._claim, **evidence)

    def end(self, state: State, problem: Problem) -> None:
        with self._database.write() as session:
            builds.end(session, builds.get(session, self._build_id), state, problem)

    def fail(self, problem: Problem, stage: Stage = BUILD) -> None:
        """A first step that does not succeed."""
        self.take(stage)
        step = self.begin("packages", "Reading package lists", "E: no such package")
        self.finish(step, "package nginx-lite is unknown", state="failed")
        self.end(State.FAILED, problem)

    def lock(self, lock: Lock) -> None:
        """What was resolved."""
        self.take(RESOLVE)
        self.step("resolve", summary=f"{len(lock.packages)} packages to add")
        self.hand_on(lock=kept(lock))

    def plan(self, plan: Plan) -> Build:
        """What would be done; the build that asked."""
        self.take(PLAN)
        self.hand_on(plan=kept(plan))
        with self._database.read() as session:
            return builds.get(session, self._build_id)

    def rebuild(self, evidence: RebuildEvidence) -> None:
        """An image that was rebuilt and is the same."""
        self.take(REBUILD)
        self.step("compare", summary="bit for bit")
        self.hand_on(rebuild=kept(evidence))

    def differ(self, evidence: RebuildEvidence, problem: Problem) -> None:
        """An image that was rebuilt and is not the same."""
        self.take(REBUILD)
        step = self.begin("compare", "content: /etc/motd")
        self.finish(step, f"{evidence.differences_total} paths differ", state="failed")
        with self._database.write() as session:
            build = builds.get(session, self._build_id)
            build.evidence = {**build.evidence, "rebuild": kept(evidence)}
        self.end(State.FAILED, problem)

    def find_unchanged(self, before: str) -> None:
        """The inputs are those of a build that was released before."""
        self.take(BUILD)
        self.step("unchanged", summary=f"the same inputs were released by build {before}")
        with self._database.read() as session:
            known = builds.get(session, before).evidence
        answer = Unchanged(build_id=before, digest=known["build"]["image"]["manifest_digest"])
        self.hand_on(**known, unchanged=kept(answer))

    def release(
        self,
        digest: str = IMAGE,
        *,
        repository: Repository | None = None,
        sample: bool = True,
        sandbox: bool = True,
        pause: float = 0.0,
    ) -> None:
        """Everything from the queue to the release, with a pause, in seconds, after the packages."""
        self.take(BUILD)
        self.step("packages", "Setting up nginx", summary="18 packages installed")
        time.sleep(pause)
        self.step("canonicalise", summary="900 paths")
        built = self._built(digest)
        self.hand_on(build=built)
        self.take(SCAN)
        self.step("scan", summary="1 finding")
        self.hand_on(scan=scan_evidence(digest, sample=sample))
        self.take(RELEASE)
        self.step("sign", summary="log index 7")
        with self._database.write() as session:
            build = builds.get(session, self._build_id)
            target = repository or Repository("127.0.0.1:5000", f"golden/{build.recipe_name}")
            session.add(
                Release(
                    build_id=build.id,
                    digest=digest,
                    recipe_name=build.recipe_name,
                    recipe_digest=build.recipe_digest,
                    registry_host=target.registry,
                    repository=target.name,
                    tags=["latest"],
                    released_at=time.time(),
                    build_key=built["build_key"],
                )
            )
        self.hand_on(release=release_evidence(target.name, sandbox=sandbox))

    def _built(self, digest: str) -> dict[str, Any]:
        """From the lock that came with the build, or from any."""
        with self._database.read() as session:
            build = builds.get(session, self._build_id)
            given = Lock.model_validate_json(build.lock) if build.lock else None
            recipe_digest = build.recipe_digest
        used = given or locks.lock()
        built = finished.build_evidence(digest, used, given=given is not None)
        figures = {"compressed_size": 48_300_000, "packages": 142}
        key = build_key(recipe_digest, used)
        return kept(built.model_copy(update={"image": built.image.model_copy(update=figures), "build_key": key}))

    def attach(self, kind: Kind, media_type: str, content: bytes) -> None:
        with self._database.write() as session:
            attachments.attach(session, self._build_id, kind, media_type, content)


def scan_evidence(digest: str, *, sample: bool) -> dict[str, Any]:
    finding = Vulnerability(
        id="CVE-2024-0001",
        package="zlib1g",
        installed="1.3",
        severity=Severity.MEDIUM,
        status="affected",
        target="debian",
    )
    return kept(
        ScanEvidence(
            scanner=ScannerIdentity(name="trivy", version="0.76", sha256="0a" * 32),
            database=DatabaseIdentity(
                digest=OTHER, updated_at=NOW, next_update=NOW, downloaded_at=NOW, source="test", sample=sample
            ),
            findings=Findings(vulnerabilities=(finding,)),
            verdict=Verdict(passed=True, reference=digest, rules=(), sample_database=sample, database_digest=OTHER),
            report_digest=OTHER,
            cyclonedx_digest=OTHER,
            spdx_digest=OTHER,
        )
    )


def release_evidence(repository: str, *, sandbox: bool) -> dict[str, Any]:
    return kept(
        ReleaseEvidence(
            identity="https://sandbox.invalid/release",
            issuer="http://127.0.0.1:8090",
            log_index=7,
            sandbox=sandbox,
            repository=repository,
            tags=("latest",),
            provenance_digest=OTHER,
            referrers={},
        )
    )


@contextlib.contextmanager
def running_api(directory: Path, recipes: Sequence[tuple[str, str]] = (), **settings: Any) -> Iterator[Api]:
    """Serve the API on a free loopback port from a thread; `recipes` are (name, YAML)."""
    catalogue = directory / "recipes"
    catalogue.mkdir(parents=True)
    for name, text in recipes or (("base", BASE_RECIPE), ("web", WEB_RECIPE), ("layered", LAYERED_RECIPE)):
        (catalogue / f"{name}.yaml").write_text(text)
    url = f"sqlite:///{directory / 'goldsmith.db'}"
    database = Database(url)
    database.migrate()
    with database.write() as session:
        key = keys.create_key(session, "tester")
    app = create_app(Settings(database_url=url, recipes_directory=catalogue, **settings))
    with serving(app) as port:
        yield Api(f"http://127.0.0.1:{port}", key, database, directory)
    database.close()


@contextlib.contextmanager
def serving(app: Any, port: int = 0) -> Iterator[int]:
    """Serve any ASGI application; the answer is its port."""
    port = port or free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.02)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
