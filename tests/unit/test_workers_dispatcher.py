"""The dispatcher hands out what is due, and finds what a worker or a broker has lost; nothing depends on either."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from builder.pipeline.services import Services
from builder.settings import Settings
from builder.store import builds, errands, journal, outbox
from builder.store.builds import Claim, Submission
from builder.store.errands import ErrandKind
from builder.store.leases import Silence
from builder.store.schema import Build, Errand, OutboxRow
from builder.store.states import BUILD, RELEASE, State
from tests.unit.stored import PROBLEM
from workers.dispatcher import hand_out_errands, publish, schedule_rescan, sweep
from workers.reaper import reap, send_lost_again

pytest_plugins = ["tests.unit.databases"]
QUEUES = ("build", "scan", "release", "errands")


@pytest.fixture
def services(tmp_path: Path, migrated_file: Path) -> Iterator[Services]:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    made = Services(Settings(state_directory=tmp_path, database_url=f"sqlite:///{tmp_path / 'goldsmith.db'}"))
    yield made
    made.database.close()


@pytest.fixture
def broker() -> Iterator[Celery]:
    """A Celery whose messages stay in this process."""
    app = Celery(broker="memory://")
    app.conf.task_create_missing_queues = True
    received(app)
    yield app
    app.close()


def received(app: Celery) -> list[tuple[str, str, list[Any]]]:
    """(queue, task, arguments) of every message that waits; takes them away."""
    found = []
    with app.connection() as connection:
        for name in QUEUES:
            queue = connection.SimpleQueue(name)
            while True:
                try:
                    message = queue.get_nowait()
                except Empty:
                    break
                message.ack()
                found.append((name, message.headers["task"], message.payload[0]))
            queue.close()
    return found


def submit(services: Services) -> str:
    with services.database.write() as session:
        return builds.submit(session, Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci")).id


def claim(services: Services, build_id: str, lease: float = 60) -> Claim:
    with services.database.write() as session:
        found = builds.claim(session, build_id, BUILD, "w", lease)
    assert found is not None
    return found


def reap_silent(services: Services, after: float = 61) -> None:
    """A look, and another one after so many seconds in which nobody was heard of."""
    now = [0.0]
    silence = Silence(lambda: now[0])
    reap(services, silence)
    now[0] = after
    reap(services, silence)


def look(services: Services, build_id: str) -> Build:
    with services.database.read() as session:
        build = builds.get(session, build_id)
        session.expunge(build)
        return build


class TestPublish:
    def test_sends_each_message_once_with_the_builds_id_and_nothing_else(
        self, services: Services, broker: Celery
    ) -> None:
        ids = [submit(services) for _ in range(3)]
        assert publish(services, broker) == 3
        assert received(broker) == [("build", "goldsmith.build", [build_id]) for build_id in ids]
        assert publish(services, broker) == 0
        assert received(broker) == []

    def test_keeps_everything_while_the_broker_is_away(self, services: Services, broker: Celery) -> None:
        build_id = submit(services)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        dead = Celery(broker=f"redis://127.0.0.1:{port}/0")
        dead.conf.update(task_create_missing_queues=True, broker_transport_options={"max_retries": 0})
        with pytest.raises(OperationalError):
            publish(services, dead)
        with services.database.write() as session:
            session.execute(update(OutboxRow).values(published_at=time.time() - 61))
        with pytest.raises(OperationalError):
            send_lost_again(services, dead)
        with services.database.write() as session:
            session.execute(update(OutboxRow).values(published_at=None))
        assert publish(services, broker) == 1
        assert received(broker) == [("build", "goldsmith.build", [build_id])]

    def test_sends_nothing_while_the_database_cannot_be_written(self, services: Services, broker: Celery) -> None:
        submit(services)
        with services.database.write() as session:
            errands.add(session, ErrandKind.SIGN, "x")
            for table in ("outbox", "errands"):
                session.execute(
                    text(f"CREATE TRIGGER full_{table} BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END")
                )
        for send in (publish, hand_out_errands):
            with pytest.raises(IntegrityError, match="full"):
                send(services, broker)
        assert received(broker) == []


class TestReap:
    def test_leaves_alone_who_is_at_work(self, services: Services) -> None:
        build_id = submit(services)
        held = claim(services, build_id, lease=60)
        reap_silent(services, after=59)
        assert look(services, build_id).token == held.token

    def test_begins_anew_what_has_lost_its_worker(self, services: Services) -> None:
        build_id = submit(services)
        held = claim(services, build_id)
        with services.database.write() as session:
            journal.begin_step(session, build_id, held.attempt, "run")
        reap_silent(services)
        build = look(services, build_id)
        assert (build.state, build.attempt) == ("queued", 2)
        (why,) = build.retries
        assert (why["attempt"], why["state"], why["type"]) == (1, "building", "/problems/worker-lost")
        with services.database.read() as session:
            assert [step.state for step in journal.steps_of(session, build_id)] == ["lost"]

    def test_gives_up_after_a_few_attempts_and_says_why(self, services: Services) -> None:
        build_id = submit(services)
        for _ in range(services.settings.maximum_attempts):
            claim(services, build_id)
            reap_silent(services)
        build = look(services, build_id)
        assert build.state == "failed"
        assert build.problem is not None
        assert build.problem["type"] == "/problems/worker-lost"
        assert build.problem["detail"] == "3 attempts, and the last worker was lost in the building stage"
        assert [one["attempt"] for one in build.retries] == [1, 2]
        assert "memory" in build.problem["hint"]

    def test_does_not_give_up_a_release_that_is_recorded_after_a_few_attempts(self, services: Services) -> None:
        build_id = submit(services)
        with services.database.write() as session:
            session.execute(
                update(Build).values(
                    state=RELEASE.running, attempt=9, lease_until=time.time() - 1, evidence={"release": {}}
                )
            )
        reap_silent(services)
        assert (look(services, build_id).state, look(services, build_id).attempt) == ("scanned", 10)

    def test_gives_even_a_recorded_one_an_end(self, services: Services) -> None:
        build_id = submit(services)
        with services.database.write() as session:
            session.execute(update(Build).values(state=RELEASE.running, attempt=200, evidence={"release": {}}))
        reap_silent(services)
        assert look(services, build_id).state == "failed"

    def test_sends_a_lost_message_again(self, services: Services, broker: Celery) -> None:
        build_id = submit(services)
        publish(services, broker)
        received(broker)
        with services.database.write() as session:
            session.execute(update(OutboxRow).values(published_at=time.time() - 61))
        send_lost_again(services, broker)
        publish(services, broker)
        assert received(broker) == [("build", "goldsmith.build", [build_id])]

    def test_sends_none_again_while_nobody_takes_them(self, services: Services, broker: Celery) -> None:
        ids = [submit(services) for _ in range(3)]
        with services.database.write() as session:
            errands.add(session, ErrandKind.SIGN, "x")
        for _ in range(3):
            publish(services, broker)
            hand_out_errands(services, broker)
            with services.database.write() as session:
                session.execute(update(OutboxRow).values(published_at=time.time() - 61))
                session.execute(update(Errand).values(published_at=time.time() - 61))
            send_lost_again(services, broker)
        found = received(broker)
        assert [arguments for queue, _, arguments in found if queue == "build"] == [[build_id] for build_id in ids]
        assert len(found) == 4

    def test_does_not_wake_what_has_ended(self, services: Services) -> None:
        build_id = submit(services)
        with services.database.write() as session:
            builds.end(session, builds.get(session, build_id), State.FAILED, PROBLEM)
        reap_silent(services)
        assert look(services, build_id).state == "failed"
        with services.database.write() as session:
            assert outbox.due(session) == []


def test_a_sweep_of_nothing_needs_no_registry(services: Services) -> None:
    submit(services)
    sweep(services)


class TestErrands:
    def test_each_goes_once_to_the_queue_of_the_worker_that_can_do_it(self, services: Services, broker: Celery) -> None:
        with services.database.write() as session:
            for kind in ErrandKind:
                errands.add(session, kind, "x")
            session.flush()
            numbers = {one.kind: one.id for one in errands.due(session)}
        assert hand_out_errands(services, broker) == 4
        assert hand_out_errands(services, broker) == 0
        assert sorted(received(broker)) == sorted(
            [
                ("release", "goldsmith.sign", [numbers["sign"]]),
                ("release", "goldsmith.checkpoint", [numbers["checkpoint"]]),
                ("errands", "goldsmith.rescan", [numbers["rescan"]]),
                ("errands", "goldsmith.notify", [numbers["notify"]]),
            ]
        )

    def test_one_whose_message_was_lost_is_handed_out_again(self, services: Services, broker: Celery) -> None:
        with services.database.write() as session:
            errands.add(session, ErrandKind.SIGN, "x")
        hand_out_errands(services, broker)
        with services.database.write() as session:
            session.execute(update(Errand).values(published_at=time.time() - 61))
        received(broker)
        send_lost_again(services, broker)
        assert hand_out_errands(services, broker) == 1

    def test_a_round_of_scans_is_due_each_hour_and_never_twice_at_once(self, services: Services) -> None:
        def rounds() -> int:
            schedule_rescan(services)
            with services.database.read() as session:
                return session.query(Errand).count()

        assert [rounds(), rounds()] == [1, 1]
        with services.database.write() as session:
            session.execute(update(Errand).values(created_at=time.time() - 3601))
        assert rounds() == 1  # the one before has not been done yet
        with services.database.write() as session:
            session.execute(update(Errand).values(done_at=time.time()))
        assert [rounds(), rounds()] == [2, 2]

    def test_none_is_scheduled_where_the_settings_say_so(self, services: Services) -> None:
        services.settings = services.settings.model_copy(update={"rescan_minutes": 0})
        schedule_rescan(services)
        with services.database.read() as session:
            assert session.query(Errand).count() == 0
