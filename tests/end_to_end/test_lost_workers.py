"""The database is the truth and Celery only delivers: what workers and brokers lose costs time, and no build."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from builder.store import attachments
from builder.store.attachments import Kind
from builder.store.database import Database
from tests.end_to_end.world import Goldsmith, Released


@pytest.fixture(autouse=True)
def _base_is_released(web: Released) -> None:
    return None


def test_a_worker_that_is_killed_in_the_middle_of_a_build_costs_time_and_nothing_else(goldsmith: Goldsmith) -> None:
    stack = goldsmith.stack
    stack.process("worker-build").stop()
    stack.overrides["LEASE_SECONDS"] = "4"
    stack.start("worker-build")
    try:
        build_id = goldsmith.submit(goldsmith.recipe("killed", run=[{"shell": "sleep 3"}]))
        goldsmith.until(build_id, lambda build: any(step["name"] == "run" for step in build["steps"]))
        stack.process("worker-build").kill()
        stack.start("worker-build")
        build = goldsmith.finished(build_id)
    finally:
        stack.process("worker-build").stop()
        del stack.overrides["LEASE_SECONDS"]
        stack.start("worker-build")
    assert build["state"] == "released", build["problem"]
    assert build["attempt"] == 2
    assert [step["state"] for step in build["steps"] if step["name"] == "run"] == ["lost", "done"]
    goldsmith.wait_until_clean()


def test_a_build_taken_in_while_the_broker_is_away_is_released_when_it_is_back(goldsmith: Goldsmith) -> None:
    goldsmith.stack.process("redis").stop()
    try:
        build_id = goldsmith.submit(goldsmith.recipe("no-broker"))
        assert goldsmith.build(build_id)["state"] == "queued"
        ready = goldsmith.api.get("/readyz").json()
        assert "away" in ready["checks"]["redis"]
    finally:
        goldsmith.stack.start("redis")
    assert goldsmith.finished(build_id)["state"] == "released"


def test_a_broker_that_forgets_everything_delays_a_build(goldsmith: Goldsmith) -> None:
    stack = goldsmith.stack
    stack.process("worker-build").stop()
    build_id = goldsmith.submit(goldsmith.recipe("forgotten"))
    port = str(stack.ports["redis"])
    for _ in range(100):
        length = subprocess.run(["redis-cli", "-p", port, "llen", "build"], capture_output=True, text=True, check=True)
        if length.stdout.strip() != "0":
            break
    subprocess.run(["redis-cli", "-p", port, "flushall"], capture_output=True, check=True)
    stack.start("worker-build")
    assert goldsmith.finished(build_id)["state"] == "released"


def test_a_message_delivered_many_times_gives_one_release(goldsmith: Goldsmith) -> None:
    from celery import Celery

    build_id = goldsmith.submit(goldsmith.recipe("delivered-often"))
    app = Celery(broker=f"redis://127.0.0.1:{goldsmith.stack.ports['redis']}/0")
    app.conf.task_create_missing_queues = True
    for queue in ("build", "scan", "release"):
        for _ in range(30):
            app.send_task(f"goldsmith.{queue}", args=[build_id], queue=queue, ignore_result=True)
    released = goldsmith.finished(build_id)
    assert released["state"] == "released"
    names = [step["name"] for step in released["steps"]]
    assert len(names) == len(set(names)), "a step ran twice"


def test_a_worker_that_is_killed_between_log_and_registry_releases_once_with_what_was_signed(
    goldsmith: Goldsmith,
) -> None:
    stack = goldsmith.stack
    registry, sigstore = stack.process("registry"), stack.process("sigstore")
    database = Database(stack.environment("api")["GOLDSMITH_DATABASE_URL"])

    def signed(build_id: str) -> bytes | None:
        with database.read() as session:
            found = attachments.find(session, build_id, Kind.PROVENANCE)
            return attachments.content(session, found) if found else None

    with goldsmith.worker("release", LEASE_SECONDS="4"):
        os.kill(sigstore.pid(), signal.SIGSTOP)
        try:
            build_id = goldsmith.submit(goldsmith.recipe("signed-once"))
            goldsmith.until(build_id, lambda build: build["steps"] and build["steps"][-1]["name"] == "sign")
            time.sleep(1)  # it has looked at what is staged, and waits for the signer
            os.kill(registry.pid(), signal.SIGSTOP)
        finally:
            os.kill(sigstore.pid(), signal.SIGCONT)
        try:
            goldsmith.until(build_id, lambda build: build["steps"][-1]["name"] == "publish")
            before = signed(build_id)
            stack.process("worker-release").kill()
        finally:
            os.kill(registry.pid(), signal.SIGCONT)
        assert before is not None
        assert goldsmith.tags("test/signed-once") == []
        stack.start("worker-release")
        build = goldsmith.finished(build_id)
    assert build["state"] == "released", build["problem"]
    assert [step["state"] for step in build["steps"] if step["name"] in ("sign", "publish")] == [
        "done",
        "lost",
        "done",
        "done",
    ]
    digest = build["result"]["digest"]
    assert goldsmith.api.get(f"/v1/images/{digest}/provenance").content == before
    assert len(goldsmith.api.get("/v1/provenance", params={"digest": digest}).json()["releases"]) == 1
    database.close()


def test_a_signer_that_is_away_for_a_moment_costs_a_moment(goldsmith: Goldsmith) -> None:
    stack = goldsmith.stack
    stack.process("sigstore").stop()
    try:
        build_id = goldsmith.submit(goldsmith.recipe("patient"))
        goldsmith.until(build_id, lambda build: "trying again" in goldsmith.log(build_id))
    finally:
        stack.start("sigstore")
    build = goldsmith.finished(build_id)
    assert (build["state"], build["attempt"]) == ("released", 1), build["problem"]
