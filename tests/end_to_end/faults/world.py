"""A Goldsmith whose processes can be killed at named points, and what must hold after whatever happens to it."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from builder.store.database import Database
from builder.store.schema import Build, OutboxRow, Record, Release, Step
from builder.store.states import FINAL, State
from scripts.stack.services import ROOT, Stack
from tests.end_to_end.faults.points import POINTS, SAID
from tests.end_to_end.faults.proxy import Proxy
from tests.end_to_end.world import Goldsmith

LEASE_SECONDS = 2
# Enough for a kill at each of a few points, one after the other.
ATTEMPTS = 40
PROCESSES = {"api": "api", "dispatcher": "dispatcher"} | {
    name: f"worker-{name}" for name in ("build", "scan", "release")
}


class Proxied(Stack):
    """Its registry is behind a proxy, for everybody."""

    def __init__(self, state: Path) -> None:
        super().__init__(state, any_ports=True)
        self.proxy = Proxy(self.ports["registry"])

    @property
    def registry(self) -> str:
        return f"127.0.0.1:{self.proxy.port}"


class Faulty(Goldsmith):
    def __init__(self, stack: Proxied, faults: Path) -> None:
        super().__init__(stack)
        self.proxy = stack.proxy
        self.faults = faults
        self.database = Database(stack.environment("api")["GOLDSMITH_DATABASE_URL"])

    def arm(self, point: str) -> None:
        (self.faults / SAID / point).unlink(missing_ok=True)
        (self.faults / point).touch()

    def disarm(self) -> None:
        for path in self.faults.iterdir():
            if path.is_file():
                path.unlink()

    def died_at(self, point: str) -> bool:
        return (self.faults / SAID / point).exists()

    def restart_dead(self) -> None:
        for name in PROCESSES.values():
            if not self.stack.process(name).alive():
                self.stack.start(name)

    def tiny(self, name: str, **spec: Any) -> dict[str, Any]:
        """On the released base, with one command and one test, in seconds."""
        one = {"run": [{"shell": f"echo {name} > /srv/name"}], "tests": [{"command": ["true"]}]}
        return self.recipe(name, **{**one, **spec})

    def stored(self, build_id: str) -> Build:
        with self.database.read() as session:
            return session.get_one(Build, build_id)

    def ended(self, build_id: str, patience: float) -> Build:
        """The build once it is final, whoever had to be started again for that."""
        deadline = time.monotonic() + patience
        while True:
            self.restart_dead()
            build = self.stored(build_id)
            if State(build.state).final:
                return build
            assert time.monotonic() < deadline, (
                f"{build.state} after {patience} s: {build.retries}\n{self._steps(build_id)}"
            )
            time.sleep(0.2)

    def must_hold(self, build_ids: list[str]) -> None:
        """Every build final; of each released one a release, a record and its tags; nothing of any other; a whole
        ledger; nothing left over."""
        with self.database.read() as session:
            builds = {one.id: one for one in session.scalars(select(Build).where(Build.id.in_(build_ids)))}
            releases = Counter(session.scalars(select(Release.build_id).where(Release.build_id.in_(build_ids))))
            records = Counter(session.scalars(select(Record.build_id).where(Record.build_id.in_(build_ids))))
            messages = session.scalars(select(OutboxRow.build_id).where(OutboxRow.build_id.in_(build_ids))).all()
            running = session.scalars(
                select(Step.name).where(Step.build_id.in_(build_ids), Step.state == "running")
            ).all()
        assert set(builds) == set(build_ids), "a build that was taken in is not there"
        assert {one.state for one in builds.values()} <= {*FINAL}
        released = {one.id for one in builds.values() if one.state == State.RELEASED}
        assert releases == records == Counter(released), "each released build has one release and one record"
        assert messages == []
        assert running == []
        for build_id in released:
            self._is_whole(builds[build_id])
        self._ledger_is_whole()
        self.wait_until_clean(60)

    def _is_whole(self, build: Build) -> None:
        """Signed, attached and tagged: `verify` would say so."""
        repository, digest = f"test/{build.recipe_name}", str(build.image_digest)
        reference = f"{self.stack.registry}/{repository}@{digest}"
        verified = self.run("verify", reference, check=False)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert self.manifests(repository), "an image is in the registry"

    def _ledger_is_whole(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            done = self.run("ledger", "verify", "--database", check=False)
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline, done.stdout + done.stderr
            time.sleep(1)

    def _steps(self, build_id: str) -> list[tuple[str, str, str]]:
        with self.database.read() as session:
            steps = session.scalars(select(Step).where(Step.build_id == build_id).order_by(Step.id))
            return [(one.name, one.state, one.summary) for one in steps][-12:]


@contextmanager
def running(state: Path, database_url: str) -> Iterator[Faulty]:
    faults = state / "faults"
    (faults / SAID).mkdir(parents=True)
    stack = Proxied(state / "stack")
    stack.overrides |= {
        "DATABASE_URL": database_url,
        "RECIPES_DIRECTORY": str(state / "recipes"),
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "MAXIMUM_ATTEMPTS": str(ATTEMPTS),
    }
    recipes = state / "recipes"
    # Without their locks: the archive may no longer have what these name.
    shutil.copytree(ROOT / "recipes", recipes, ignore=shutil.ignore_patterns("*.lock.json"))
    os.environ["TEST_FAULTS"] = str(faults)
    stack.applications |= {name: f"tests.end_to_end.faults.{name}" for name in POINTS}
    try:
        stack.up(print)
        world = Faulty(stack, faults)
        world.release(world.tiny("first"))  # and with it the base of all others
        yield world
        world.database.close()
    finally:
        stack.down(print)
        stack.proxy.close()
        del os.environ["TEST_FAULTS"]
