"""Whoever waits for a build is told as soon as it has ended, and stands in nobody's way."""

from __future__ import annotations

import threading
import time

import anyio
import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from builder.store import keys
from builder.store.database import Database
from tests.unit.api import end, problem, submit

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


def test_a_build_that_has_ended_is_answered_at_once(client: TestClient, store: Database) -> None:
    build_id = submit(store)
    end(store, build_id)
    began = time.monotonic()
    assert client.get(f"/v1/builds/{build_id}?wait=60").json()["state"] == "failed"
    assert time.monotonic() - began < 2


def test_a_build_that_ends_meanwhile_is_answered_then(client: TestClient, store: Database) -> None:
    build_id = submit(store)
    timer = threading.Timer(0.6, end, (store, build_id))
    began = time.monotonic()
    timer.start()
    assert client.get(f"/v1/builds/{build_id}?wait=60").json()["state"] == "failed"
    assert 0.5 < time.monotonic() - began < 5
    timer.join()


def test_a_build_that_goes_on_is_answered_in_time_as_it_is(client: TestClient, store: Database) -> None:
    build_id = submit(store)
    began = time.monotonic()
    assert client.get(f"/v1/builds/{build_id}?wait=1").json()["state"] == "queued"
    assert 0.9 < time.monotonic() - began < 5


def test_who_asks_for_a_build_may_wait_for_it_and_the_key_holds(client: TestClient, store: Database) -> None:
    def end_the_first() -> None:
        while not (found := client.get("/v1/builds").json()["builds"]):
            time.sleep(0.05)
        end(store, found[0]["id"])

    worker = threading.Thread(target=end_the_first)
    worker.start()
    headers = {"Idempotency-Key": "k"}
    first = client.post("/v1/builds?wait=30", json={"recipe": "web"}, headers=headers)
    worker.join()
    assert (first.status_code, first.json()["state"]) == (202, "failed")
    assert first.headers["Location"] == f"/v1/builds/{first.json()['id']}"
    # How long to wait is not part of the request.
    again = client.post("/v1/builds?wait=1", json={"recipe": "web"}, headers=headers)
    assert (again.status_code, again.content, again.headers["Idempotency-Replayed"]) == (202, first.content, "true")


@pytest.mark.parametrize("wait", ["-1", "61", "x", "nan", "1e1"])
def test_a_wait_that_is_none_is_told(client: TestClient, store: Database, wait: str) -> None:
    told = problem(client.get(f"/v1/builds/{submit(store)}?wait={wait}"), 422, "request-invalid")
    assert told.errors[0].field == "query.wait"


def test_nobody_waits_for_what_there_is_not(client: TestClient) -> None:
    problem(client.get(f"/v1/builds/{'0' * 26}?wait=60"), 404, "build-unknown")


def test_hundreds_wait_and_others_are_answered(app: FastAPI, store: Database) -> None:
    """More than there are threads or connections."""
    with store.write() as session:
        headers = {"Authorization": f"Bearer {keys.create_key(session, 'ci')}"}
    ids = [submit(store) for _ in range(10)]
    states: list[str] = []

    async def wait(client: httpx.AsyncClient, build_id: str) -> None:
        states.append((await client.get(f"/v1/builds/{build_id}?wait=60")).json()["state"])

    async def play() -> tuple[float, float]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client,
            anyio.create_task_group() as tasks,
        ):
            for number in range(300):
                tasks.start_soon(wait, client, ids[number % 10])
            with anyio.fail_after(30):
                while sum(len(one) for one in app.state.endings._waiting.values()) < 300:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
            began = time.monotonic()
            assert (await client.get("/v1/builds")).status_code == 200
            other = time.monotonic() - began
            for build_id in ids:
                await anyio.to_thread.run_sync(end, store, build_id)
            ended = time.monotonic()
            while len(states) < 300:
                await anyio.sleep(0.05)
                assert time.monotonic() - ended < 20
            return other, time.monotonic() - ended

    other, _ = anyio.run(play)
    assert other < 1
    assert states == ["failed"] * 300
    assert app.state.endings._waiting == {}
