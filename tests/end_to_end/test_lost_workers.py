"""The database is the truth and Celery only delivers: what workers and brokers lose costs time, and no build."""

from __future__ import annotations

import subprocess

import pytest

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
