"""Builds that wait for others, messages to workers, and what is staged: nothing lost, nothing done twice. On both."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import delete, select, update

from builder.store import builds, outbox
from builder.store.database import Database
from builder.store.outbox import QueueFull
from builder.store.schema import OutboxRow, Release
from builder.store.states import BUILD, RELEASE, SCAN, State
from tests.unit.stored import PROBLEM, claim, complete, messages, release, state, submission, submit

pytest_plugins = ["tests.unit.databases"]


class TestWaiting:
    def test_begins_when_the_base_is_released(self, database: Database) -> None:
        base = submit(database, "base")
        child = submit(database, waits_for=base)
        assert state(database, child) == "waiting"
        assert (child, "build") not in messages(database)
        release(database, base)
        assert state(database, child) == "queued"
        assert messages(database).count((child, "build")) == 1

    def test_begins_when_the_base_turns_out_to_be_released_already(self, database: Database) -> None:
        base = submit(database, "base")
        child = submit(database, waits_for=base)
        complete(database, claim(database, base), unchanged={"build_id": "0" * 26})
        assert (state(database, base), state(database, child)) == ("released", "queued")
        assert messages(database).count((child, "build")) == 1
        assert (base, "scan") not in messages(database)

    @pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED])
    def test_fails_with_the_base_down_to_the_last_grandchild(self, database: Database, end: State) -> None:
        base = submit(database, "base")
        child = submit(database, "child", waits_for=base)
        grandchild = submit(database, waits_for=child)
        with database.write() as session:
            builds.end(session, builds.get(session, base), end, PROBLEM)
        for build_id, because in ((child, base), (grandchild, child)):
            with database.read() as session:
                build = builds.get(session, build_id)
                assert build.state == "failed"
                assert build.problem is not None
                assert build.problem["type"] == "/problems/base-not-released"
                assert because in build.problem["detail"]
                assert f"goldsmith show {because}" in build.problem["hint"]

    def test_that_was_cancelled_is_left_alone(self, database: Database) -> None:
        base = submit(database, "base")
        child = submit(database, waits_for=base)
        with database.write() as session:
            builds.request_cancel(session, child)
        release(database, base)
        assert state(database, child) == "cancelled"

    def test_that_is_cancelled_while_the_base_is_released_stays_cancelled(self, database: Database) -> None:
        base = submit(database, "base")
        child = submit(database, waits_for=base)
        for stage in (BUILD, SCAN):
            complete(database, claim(database, base, stage))
        held = claim(database, base, RELEASE)
        with ThreadPoolExecutor(1) as pool:
            with database.write() as session:
                builds.request_cancel(session, child)
                session.flush()
                ended = pool.submit(complete, database, held)
                time.sleep(0.3)
            ended.result()
        assert (state(database, base), state(database, child)) == ("released", "cancelled")
        assert (child, "build") not in messages(database)

    def test_is_not_forgotten_when_the_base_ends_at_that_very_moment(self, database: Database) -> None:
        """The base must not be able to end between the look for it and the arrival of who waits for it."""
        base = submit(database, "base")
        for stage in (BUILD, SCAN):
            complete(database, claim(database, base, stage))
        held = claim(database, base, RELEASE)
        found = threading.Event()

        def end_the_base() -> None:
            found.wait()
            complete(database, held)

        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(end_the_base)
            with database.write() as session:
                running = builds.running_build_of(session, "sha256:" + "1" * 64, None)
                assert running is not None
                found.set()
                time.sleep(0.3)
                child = builds.submit(session, submission("child", "2"), waits_for=running.id).id
            ended.result()
        assert state(database, base) == "released"
        assert state(database, child) == "queued"


class TestRunning:
    def test_finds_the_oldest_that_has_not_ended(self, database: Database) -> None:
        first, _ = submit(database), submit(database)
        with database.write() as session:
            found = builds.running_build_of(session, "sha256:" + "1" * 64, None)
            assert found is not None
            assert found.id == first

    def test_does_not_find_what_ends_soon_has_ended_or_is_another_recipe(self, database: Database) -> None:
        ended, ending = submit(database), submit(database)
        claim(database, ending)
        submit(database, digest="2")
        with database.write() as session:
            builds.request_cancel(session, ended)
            builds.request_cancel(session, ending)
        with database.write() as session:
            assert builds.running_build_of(session, "sha256:" + "1" * 64, None) is None

    def test_finds_with_a_lock_only_what_is_built_with_that_lock(self, database: Database) -> None:
        ids = {}
        for lock in ('{"epoch": 1}', '{"epoch": 2}'):
            with database.write() as session:
                ids[lock] = builds.submit(session, replace(submission(), lock=lock)).id
        with database.write() as session:
            assert builds.running_build_of(session, "sha256:" + "1" * 64, None) is None
            for lock, build_id in ids.items():
                found = builds.running_build_of(session, "sha256:" + "1" * 64, lock)
                assert found is not None
                assert found.id == build_id

    def test_the_newest_release_speaks_for_a_recipe(self, database: Database) -> None:
        ids = [submit(database) for _ in range(2)]
        with database.write() as session:
            for build_id, at in zip(ids, (20.0, 10.0), strict=True):
                session.add(
                    Release(
                        build_id=build_id, digest="sha256:" + "a" * 64, recipe_name="web",
                        recipe_digest="sha256:" + "1" * 64, registry_host="h", repository="r", tags=["1"],
                        released_at=at,
                    )
                )  # fmt: skip
        with database.read() as session:
            found = builds.newest_release(session, "sha256:" + "1" * 64, "h")
            assert found is not None
            assert found.build_id == ids[0]
            assert builds.newest_release(session, "sha256:" + "2" * 64, "h") is None
            assert builds.newest_release(session, "sha256:" + "1" * 64, "another-registry") is None


class TestOutbox:
    def test_is_read_in_the_order_in_which_it_was_written(self, database: Database) -> None:
        ids = [submit(database) for _ in range(5)]
        assert [build_id for build_id, _ in messages(database)] == ids

    def test_a_message_that_was_sent_is_not_sent_again(self, database: Database) -> None:
        submit(database)
        sent(database)
        assert messages(database) == []

    def test_goes_when_it_is_taken(self, database: Database) -> None:
        build_id = submit(database)
        sent(database)
        claim(database, build_id)
        with database.read() as session:
            assert session.scalars(select(OutboxRow)).all() == []

    def test_goes_when_nobody_needs_it_any_more(self, database: Database) -> None:
        build_id = submit(database)
        with database.write() as session:
            builds.request_cancel(session, build_id)
        assert messages(database) == []

    def test_is_sent_whole_by_many_dispatchers(self, database: Database) -> None:
        expected = {submit(database) for _ in range(30)}
        seen: set[str] = set()

        def publish(_: int) -> None:
            for _ in range(20):
                with database.read() as session:
                    found = outbox.due(session, window=4)
                seen.update(one.build_id for one in found)
                for one in found:
                    with database.write() as session:
                        outbox.mark_sent(session, [one])
                        builds.claim(session, one.build_id, BUILD, "w", 60)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(publish, range(4)))
        assert seen == expected
        assert messages(database) == []

    def test_holds_a_message_back_until_it_is_due(self, database: Database) -> None:
        build_id = submit(database)
        held = claim(database, build_id)
        with database.write() as session:
            builds.retry(session, builds.held_build(session, held), PROBLEM, delay=30)
        assert messages(database) == []
        with database.write() as session:
            session.execute(update(OutboxRow).values(due_at=time.time() - 1))
        assert messages(database) == [(build_id, "build")]

    def test_a_delay_ends_although_the_clock_is_set_back(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build_id, real = submit(database), time.time
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        assert messages(database) == [(build_id, "build")]
        sent(database)
        monkeypatch.setattr(time, "time", lambda: real() - 7200)
        with database.write() as session:
            assert outbox.send_again(session, 60, ["build"]) == 1

    def test_a_broker_has_few_messages_of_each_queue_at_a_time(self, database: Database) -> None:
        ids = [submit(database) for _ in range(outbox.WINDOW + 3)]
        assert [build_id for build_id, _ in sent(database)] == ids[: outbox.WINDOW]
        assert sent(database) == []
        held = claim(database, ids[0])
        assert sent(database) == [(ids[outbox.WINDOW], "build")]
        complete(database, held)
        assert sent(database) == [(ids[0], "scan")]

    def test_a_message_that_nobody_took_is_sent_again_in_its_turn(self, database: Database) -> None:
        ready, running = submit(database), submit(database)
        sent(database)
        claim(database, running)
        with database.write() as session:
            assert outbox.send_again(session, 60, ["build"]) == 0
            session.execute(update(OutboxRow).values(published_at=time.time() - 61))
            assert outbox.untaken(session, 60) == {"build"}
            assert outbox.send_again(session, 60, ["scan"]) == 0
            assert outbox.send_again(session, 60, ["build"]) == 1
        assert messages(database) == [(ready, "build")]

    def test_a_ready_build_without_a_message_gets_one(self, database: Database) -> None:
        ready, running, ended = submit(database), submit(database), submit(database)
        claim(database, running)
        with database.write() as session:
            builds.end(session, builds.get(session, ended), State.FAILED, PROBLEM)
            session.execute(delete(OutboxRow))
            assert outbox.restore(session) == 1
            session.flush()
            assert outbox.restore(session) == 0
        assert messages(database) == [(ready, "build")]

    def test_a_hint_is_sent_once(self, database: Database) -> None:
        build_id = submit(database)
        held = claim(database, build_id)
        with database.write() as session:
            builds.announce_staged(session, builds.held_build(session, held))
        assert sent(database) == [(build_id, "scan")]
        with database.read() as session:
            assert session.scalars(select(OutboxRow)).all() == []

    def test_an_older_build_goes_first_at_a_later_stage_too(self, database: Database) -> None:
        older, newer = submit(database), submit(database)
        complete(database, claim(database, newer))
        complete(database, claim(database, older))
        assert messages(database) == [(older, "scan"), (newer, "scan")]


class TestTeams:
    def submit(self, database: Database, requester: str, team: str | None = None) -> str:
        with database.write() as session:
            return builds.submit(session, replace(submission(), requester=requester, team=team)).id

    def sent(self, database: Database, per_team: int) -> list[tuple[str, str]]:
        with database.write() as session:
            found = outbox.due(session, per_team=per_team)
            outbox.mark_sent(session, found)
            return [(one.build_id, one.queue) for one in found]

    def test_of_which_one_is_busy_do_not_keep_others_waiting(self, database: Database) -> None:
        many = [self.submit(database, "busy") for _ in range(50)]
        one = self.submit(database, "other")
        assert self.sent(database, 2) == [(many[0], "build"), (many[1], "build"), (one, "build")]
        assert self.sent(database, 2) == []

    def test_have_no_more_builds_at_work_than_they_may(self, database: Database) -> None:
        first, second, third = (self.submit(database, "busy") for _ in range(3))
        assert self.sent(database, 2) == [(first, "build"), (second, "build")]
        held = claim(database, first)
        assert self.sent(database, 2) == []
        complete(database, held)
        # What is begun goes on, and still counts.
        assert self.sent(database, 2) == [(first, "scan")]
        complete(database, claim(database, first, SCAN))
        complete(database, claim(database, first, RELEASE))
        assert self.sent(database, 2) == [(third, "build")]

    def test_count_what_all_of_theirs_have_at_work(self, database: Database) -> None:
        first, second, third = (self.submit(database, name, "web") for name in ("ann", "bob", "eve"))
        alone = [self.submit(database, "web") for _ in range(2)]  # named like the team, and none of it
        other = self.submit(database, "eve", "shop")
        assert [build_id for build_id, _ in self.sent(database, 2)] == [first, second, *alone, other]
        held = claim(database, first)
        assert self.sent(database, 2) == []
        with database.write() as session:
            builds.end(session, builds.get(session, held.build_id), State.FAILED, PROBLEM)
        assert self.sent(database, 2) == [(third, "build")]

    def test_that_are_all_at_their_limit_hold_nothing_else_back(self, database: Database) -> None:
        for name, team in (("ann", "web"), ("eve", None)):
            self.submit(database, name, team)
            self.submit(database, name, team)
        assert len(self.sent(database, 1)) == 2
        later, lone = self.submit(database, "bob", "shop"), self.submit(database, "zoe")
        assert self.sent(database, 1) == [(later, "build"), (lone, "build")]

    def test_are_refused_when_as_many_builds_wait_as_may(self, database: Database) -> None:
        submit(database)
        running = submit(database)
        claim(database, running)
        with database.read() as session:
            outbox.refuse_full(session, 2)
            outbox.refuse_full(session, 0)
            with pytest.raises(QueueFull, match="as many builds wait to be begun as may: 1"):
                outbox.refuse_full(session, 1)


def sent(database: Database) -> list[tuple[str, str]]:
    """What is due, sent."""
    with database.write() as session:
        found = outbox.due(session)
        outbox.mark_sent(session, found)
        return [(one.build_id, one.queue) for one in found]


class TestStaging:
    def stage(self, database: Database, build_id: str, digest: str = "a", repository: str = "r") -> None:
        with database.write() as session:
            build = builds.get(session, build_id)
            build.image_digest, build.staging_repository = "sha256:" + digest * 64, repository

    def test_is_shared_while_another_build_of_the_same_image_has_not_ended(self, database: Database) -> None:
        one, other, elsewhere, different = (submit(database) for _ in range(4))
        self.stage(database, one)
        self.stage(database, other)
        self.stage(database, elsewhere, repository="s")
        self.stage(database, different, digest="b")
        with database.write() as session:
            assert builds.others_stage(session, builds.get(session, one))
            builds.end(session, builds.get(session, other), State.FAILED, PROBLEM)
        with database.read() as session:
            assert not builds.others_stage(session, builds.get(session, one))

    def test_of_an_ended_build_is_found_until_it_is_cleared(self, database: Database) -> None:
        build_id, running = submit(database), submit(database)
        self.stage(database, build_id)
        self.stage(database, running)
        with database.write() as session:
            builds.end(session, builds.get(session, build_id), State.FAILED, PROBLEM)
        with database.read() as session:
            assert builds.ended_but_staged(session) == [build_id]
