"""A step that eats all it can ends in a failed build, with a clear word, and a host on which the next build works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from builder.engine.assembly import Assembly, RunFailed
from builder.engine.container import CommandTimedOut, Container
from builder.engine.disk import DiskQuota, DiskQuotaExceeded
from builder.engine.docker import Engine, Limits
from builder.engine.network import BUILD_LABEL
from builder.errors import GoldsmithError, SettingsInvalid, StorageFull
from builder.pipeline.journal import Journal, LogTooLong
from builder.recipes.model import RunStep
from builder.store import builds
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.states import BUILD

QUOTA = 48 << 20


def step(
    engine: Engine,
    image: str,
    build_id: str,
    spool: Path,
    script: str,
    *,
    seconds: float = 30,
    on_line: Callable[[str], None] = lambda _: None,
) -> Container:
    """What a build does with a step of a recipe."""
    with engine.build_container(image, build_id, {}) as container:
        assembly = Assembly(container, 0, lambda: None, time.monotonic() + seconds, on_line, spool)
        assembly.run([RunStep(shell=script)], {})
    return container


@pytest.fixture(autouse=True)
def _a_healthy_host(
    engine: Engine, sdk: docker.DockerClient, image: str, build_id: str, tmp_path: Path
) -> Iterator[None]:
    """After each of them nothing is left, and another build works."""
    yield
    label = {"label": f"{BUILD_LABEL}={build_id}"}
    assert sdk.containers.list(all=True, filters=label) == []
    said: list[str] = []
    step(engine, image, build_id, tmp_path, "echo well", on_line=said.append)
    assert said[-1] == "well"
    assert sdk.containers.list(all=True, filters=label) == []


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("f() { f | f & }; f; sleep 20; exit 1", (CommandTimedOut, RunFailed), "did not finish in time|exit code"),
        ("x=a; while :; do x=$x$x; done", RunFailed, "more memory than"),
        ("head -c 500m /dev/zero >/dev/shm/x", RunFailed, "No space left|larger than"),
        ("while :; do :; done", CommandTimedOut, "did not finish in time"),
        ("sleep 100000", CommandTimedOut, "did not finish in time"),
        ("trap '' TERM INT HUP; while :; do sleep 1; done", CommandTimedOut, "did not finish in time"),
        ("kill -STOP $$", CommandTimedOut, "did not finish in time"),
        ("cat </dev/zero >/tmp/endless", (RunFailed, DiskQuotaExceeded), "larger than|bytes to disk"),
        ("truncate -s 8796093022208 /tmp/sparse", RunFailed, "larger than"),
        ("i=0; while :; do i=$((i+1)); head -c 8m /dev/urandom >/tmp/$i; done", DiskQuotaExceeded, "allowed"),
        ("for i in 1 2 3 4 5 6 7 8; do head -c 8m /dev/urandom >/tmp/$i; done", DiskQuotaExceeded, "allowed"),
        ("for i in 1 2 3; do truncate -s 31457280 /tmp/$i; done", DiskQuotaExceeded, "allowed"),
    ],
    ids=["fork bomb", "memory hog", "memory as files", "endless loop", "endless sleep", "deaf to signals", "stopped",
         "one endless file", "a file of eight terabytes", "many files", "many files, quickly", "many holes"],
)  # fmt: skip
def test_ends_in_a_failed_build(
    engine: Engine, image: str, build_id: str, tmp_path: Path, script: str,
    error: type[GoldsmithError] | tuple[type[GoldsmithError], ...], says: str,
) -> None:  # fmt: skip
    started = time.monotonic()
    with pytest.raises(error, match=says) as told:
        step(engine, image, build_id, tmp_path, script, seconds=3 if "time" in says else 30)
    assert told.value.problem().detail
    assert told.value.hint
    assert time.monotonic() - started < 40


def test_the_disk_that_is_left_is_watched_where_it_can_be_seen(
    engine: Engine, image: str, build_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files without a name, and files without a size, are in no sum: the disk's own word counts."""
    monkeypatch.setattr("builder.engine.disk._LEAST_FREE_BYTES", 1 << 60)
    with engine.build_container(image, build_id, {}) as container:
        quota = DiskQuota(container._api, container.id, QUOTA, tmp_path)
        with pytest.raises(StorageFull, match="almost full") as told:
            quota.look()
        assert told.value.retryable
        DiskQuota(container._api, container.id, QUOTA, None).look()
        DiskQuota(container._api, container.id, QUOTA, tmp_path / "elsewhere").look()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A build's own, with the limit of its log."""
    database = Database(f"sqlite:///{tmp_path / 'goldsmith.db'}")
    database.migrate()
    with database.write() as session:
        build_id = builds.submit(session, Submission("x", "sha256:" + "0" * 64, "{}", "request", "ci")).id
    with database.write() as session:
        claim = builds.claim(session, build_id, BUILD, "test", 60)
    assert claim is not None
    yield Journal(database, claim, 1 << 20)
    database.close()


@pytest.mark.parametrize(
    "script",
    ["yes", "yes ''", "cat /dev/zero", "cat /dev/urandom", "tr '\\0' '\\r' </dev/zero",
     "yes $(printf '\\033[2J\\033]0;x\\007')", "yes >&2"],
    ids=["lines", "empty lines", "no lines", "noise", "carriage returns", "escape sequences", "errors"],
)  # fmt: skip
def test_endless_output_ends_in_a_failed_build(
    engine: Engine, image: str, build_id: str, tmp_path: Path, journal: Journal, script: str
) -> None:
    with pytest.raises(LogTooLong, match="more output than it may") as told:
        step(engine, image, build_id, tmp_path, script, on_line=lambda line: journal.add("run", line))
    assert "GOLDSMITH_BUILD_LOG_BYTES" in (told.value.hint or "")


class TestRuntimes:
    def test_the_engines_own_can_be_named(self, docker_engine: str, image: str, build_id: str) -> None:
        named = Engine(docker_engine, Limits(128 << 20, 1.0, 64), runtime="runc")
        with named.build_container(image, build_id, {}) as container:
            assert container.run(["true"], check=lambda: None, deadline=time.monotonic() + 20).exit_code == 0
            assert container._inspect()["HostConfig"]["Runtime"] == "runc"
        assert named.identity().endswith("runtime runc")
        named.close()

    def test_one_that_the_engine_does_not_know_is_told_with_those_it_does(
        self, docker_engine: str, image: str, build_id: str
    ) -> None:
        wrong = Engine(docker_engine, Limits(128 << 20, 1.0, 64), runtime="gvisor")
        for enter in (
            lambda: wrong.build_container(image, build_id, {}),
            lambda: wrong.trial_container(image, build_id, ["sh"]),
        ):
            with pytest.raises(SettingsInvalid, match=r"GOLDSMITH_ENGINE_RUNTIME: .*'gvisor', but .*runc"), enter():
                pytest.fail("nothing starts")
        wrong.close()
