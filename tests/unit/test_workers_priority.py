"""A build of high priority goes before those that wait: in the outbox, and in a real Redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Queue
from sqlalchemy import update

from builder.pipeline.services import Services
from builder.settings import Settings
from builder.store import builds, outbox
from builder.store.builds import Submission
from builder.store.schema import OutboxRow
from builder.store.states import Priority
from workers.dispatcher import publish
from workers.reaper import send_lost_again

pytest_plugins = ["tests.unit.databases"]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(10)


@pytest.fixture
def services(tmp_path: Path, migrated_file: Path) -> Iterator[Services]:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    made = Services(Settings(state_directory=tmp_path, database_url=f"sqlite:///{tmp_path / 'goldsmith.db'}"))
    yield made
    made.database.close()


def submit(services: Services, priority: Priority) -> str:
    submission = Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci", priority=priority)
    with services.database.write() as session:
        return builds.submit(session, submission).id


def consumed(app: Celery, count: int) -> list[str]:
    """Ids in the order in which a worker that takes one at a time gets them."""
    found: list[str] = []

    def take(body: Any, message: Any) -> None:
        found.append(body[0][0])
        message.ack()

    with app.connection() as connection, connection.channel() as channel:
        channel.basic_qos(0, 1, False)
        with connection.Consumer([Queue("build")], callbacks=[take], channel=channel):
            while len(found) < count:
                connection.drain_events(timeout=10)
    return found


def test_a_high_one_overtakes_those_that_are_queued_and_a_low_one_lets_them_pass(
    services: Services, redis: str
) -> None:
    app = Celery(broker=redis)
    app.conf.task_create_missing_queues = True
    low = submit(services, Priority.LOW)
    normal = [submit(services, Priority.NORMAL) for _ in range(3)]
    publish(services, app)
    high = [submit(services, Priority.HIGH) for _ in range(2)]
    publish(services, app)
    assert consumed(app, 6) == [*high, *normal, low]
    app.close()


def test_what_a_broker_forgot_is_sent_again_and_what_waits_there_is_not(services: Services, redis: str) -> None:
    app = Celery(broker=redis)
    app.conf.task_create_missing_queues = True
    ids = {submit(services, one) for one in Priority}

    def after_a_minute() -> int:
        with services.database.write() as session:
            session.execute(update(OutboxRow).values(published_at=time.time() - 61))
        send_lost_again(services, app)
        return publish(services, app)

    assert publish(services, app) == 3
    assert after_a_minute() == 0
    consumed(app, 3)
    assert after_a_minute() == 3
    assert set(consumed(app, 3)) == ids
    app.close()


def test_what_has_still_to_be_sent_is_sent_by_priority(services: Services) -> None:
    low, normal, high = (submit(services, one) for one in (Priority.LOW, Priority.NORMAL, Priority.HIGH))
    with services.database.read() as session:
        assert [one.build_id for one in outbox.due(session, window=2)] == [high, normal]
        assert [one.build_id for one in outbox.due(session)][-1] == low
