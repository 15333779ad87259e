"""What the service stands on fails under a running build, and comes back: no build is lost, none is done twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import docker
import pytest
from celery import Celery

from scripts.stack.processes import Process
from scripts.stack.services import ROOT
from tests.end_to_end.faults.proxy import Mode
from tests.end_to_end.faults.world import Faulty
from tests.integration.own_engine import own_engine
from tests.unit.databases import Cluster

PATIENCE = 150.0


def submitted(faulty: Faulty, kind: str, count: int = 1, **spec: object) -> list[str]:
    return [faulty.submit(faulty.tiny(f"{kind}-{uuid4().hex[:8]}", **spec)) for _ in range(count)]


def at_step(faulty: Faulty, build_id: str, name: str) -> None:
    faulty.until(build_id, lambda build: any(step["name"] == name for step in build["steps"]))


def all_released(faulty: Faulty, build_ids: list[str]) -> None:
    for build_id in build_ids:
        build = faulty.ended(build_id, PATIENCE)
        assert build.state == "released", (build.problem, build.retries)
    faulty.must_hold(build_ids)


def test_redis_is_killed_and_comes_back_with_nothing_in_it(faulty: Faulty) -> None:
    slow = {"run": [{"shell": "sleep 3"}]}
    ids = submitted(faulty, "redis", 3, **slow)
    at_step(faulty, ids[0], "run")
    faulty.stack.process("redis").kill()
    shutil.rmtree(faulty.stack.state / "redis")
    ids += submitted(faulty, "redis")  # taken in all the same
    faulty.stack.start("redis")
    all_released(faulty, ids)


def test_postgresql_is_killed_under_a_running_build_and_the_api_says_so(
    faulty: Faulty, durable_cluster: Cluster
) -> None:
    ids = submitted(faulty, "postgresql", 1, run=[{"shell": "sleep 4"}])
    at_step(faulty, ids[0], "run")
    with durable_cluster.away():
        answer = faulty.api.post("/v1/builds", json={"recipe": faulty.tiny("refused")})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["type"] == "/problems/database-unavailable"
        assert faulty.api.get("/healthz").status_code == 200
        assert faulty.api.get("/readyz").status_code == 503
    all_released(faulty, ids)


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.SLOW, Mode.GARBAGE], ids=lambda mode: mode.value)
def test_the_network_to_the_registry_fails_for_a_while(faulty: Faulty, mode: Mode) -> None:
    ids = submitted(faulty, f"registry-{mode.value}", 1, run=[{"shell": "sleep 1"}])
    at_step(faulty, ids[0], "run")
    with faulty.proxy.behaving(mode):
        ids += submitted(faulty, f"registry-{mode.value}")  # the API takes builds in without it
        time.sleep(8)
    all_released(faulty, ids)


def test_the_signer_hangs_and_goes_on(faulty: Faulty) -> None:
    signer = faulty.stack.process("sigstore")
    os.kill(signer.pid(), signal.SIGSTOP)
    try:
        ids = submitted(faulty, "signer")
        at_step(faulty, ids[0], "sign")
        time.sleep(3)
    finally:
        os.kill(signer.pid(), signal.SIGCONT)
    all_released(faulty, ids)


def test_messages_come_often_and_in_any_order_to_two_workers(faulty: Faulty) -> None:
    app = Celery(broker=f"redis://127.0.0.1:{faulty.stack.ports['redis']}/0")
    app.conf.task_create_missing_queues = True
    with another_worker(faulty, "build"), another_worker(faulty, "release"):
        ids = submitted(faulty, "often", 3)
        messages = [(queue, one) for queue in ("build", "scan", "release") for one in ids] * 15
        random.Random(7).shuffle(messages)
        for queue, one in messages:
            app.send_task(f"goldsmith.{queue}", args=[one], queue=queue, ignore_result=True)
        all_released(faulty, ids)
    app.close()
    for one in ids:
        names = [step["name"] for step in faulty.build(one)["steps"]]
        assert len(names) == len(set(names)), "a step ran twice"


@pytest.mark.parametrize(("queue", "step"), [("build", "run"), ("release", "sign")])
def test_a_worker_that_was_given_up_and_wakes_up_again_changes_nothing(faulty: Faulty, queue: str, step: str) -> None:
    worker = faulty.stack.process(f"worker-{queue}")
    signer = faulty.stack.process("sigstore")
    os.kill(signer.pid(), signal.SIGSTOP)  # so that a release is in the midst of being signed
    try:
        ids = submitted(faulty, f"zombie-{queue}", 1, run=[{"shell": "sleep 2"}])
        at_step(faulty, ids[0], step)
        os.killpg(worker.pid(), signal.SIGSTOP)
    finally:
        os.kill(signer.pid(), signal.SIGCONT)
    try:
        with another_worker(faulty, queue):
            faulty.until(ids[0], lambda build: build["attempt"] > 1)
            faulty.ended(ids[0], PATIENCE)
            os.killpg(worker.pid(), signal.SIGCONT)
            time.sleep(4)
            all_released(faulty, ids)
    finally:
        os.killpg(worker.pid(), signal.SIGCONT)
    assert faulty.build(ids[0])["attempt"] == 2


def test_the_engine_is_killed_under_a_running_build(faulty: Faulty) -> None:
    with (
        own_engine() as engine,
        faulty.worker("build", faulty.stack.applications["build"], ENGINE_URL=engine.url),
    ):
        ids = submitted(faulty, "engine", 1, run=[{"shell": "sleep 4"}], tests=[])
        at_step(faulty, ids[0], "run")
        engine.restart()
        all_released(faulty, ids)
        client = docker.DockerClient(base_url=engine.url)
        deadline = time.monotonic() + 60
        while client.containers.list(all=True, filters={"label": "goldsmith.build"}):
            assert time.monotonic() < deadline, "a container was left"
            time.sleep(0.5)
        client.close()
    assert faulty.build(ids[0])["retries"], "an attempt met an engine that was away"


def test_a_disk_that_is_full_fails_a_build_clearly_and_not_the_next(faulty: Faulty, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small)], check=True)
    try:
        with faulty.worker(
            "build", faulty.stack.applications["build"], STATE_DIRECTORY=str(small), MAXIMUM_ATTEMPTS="2"
        ):
            (build_id,) = submitted(faulty, "full")
            build = faulty.ended(build_id, PATIENCE)
            assert build.state == "failed"
            assert build.problem is not None
            assert build.problem["type"] == "/problems/storage-full"
            assert [one["type"] for one in build.retries] == ["/problems/storage-full"]
            assert not list((small / "spool").iterdir())
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    faulty.must_hold([build_id])
    all_released(faulty, submitted(faulty, "full"))


@contextmanager
def another_worker(faulty: Faulty, queue: str) -> Iterator[None]:
    """A second worker of a queue."""
    stack = faulty.stack
    process = Process(f"second-{queue}", stack.state / "run", stack.state / "log" / f"second-{queue}.log")
    argv = [
        sys.executable, "-m", "celery", "-A", stack.applications[queue], "worker", "-Q", queue, "-c", "1", "-n",
        f"second-{queue}@%h", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    process.start(argv, stack.environment(queue), ROOT)
    try:
        yield
    finally:
        process.stop()
