"""A build has one worker at a time, and its requester can end it. On SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from builder.errors import Cancelled
from builder.store import builds, journal
from builder.store.builds import AlreadyFinal, BuildUnknown, Claim, LeaseLost
from builder.store.database import Database
from builder.store.leases import Silence
from builder.store.states import BUILD, RELEASE, SCAN, State
from tests.unit.stored import PROBLEM, claim, complete, messages, silent, state, submission, submit

pytest_plugins = ["tests.unit.databases"]


class TestSubmission:
    def test_is_queued_with_its_message_in_one_transaction(self, database: Database) -> None:
        build_id = submit(database)
        assert state(database, build_id) == "queued"
        assert messages(database) == [(build_id, "build")]

    def test_that_is_rolled_back_leaves_neither_build_nor_message(self, database: Database) -> None:
        ids: list[str] = []

        def take_in() -> None:
            with database.write() as session:
                ids.append(builds.submit(session, submission()).id)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            take_in()
        with pytest.raises(BuildUnknown):
            state(database, ids[0])
        assert messages(database) == []

    def test_what_is_written_in_a_read_is_not_kept(self, database: Database) -> None:
        with database.read() as session:
            session.add(builds.submit(session, submission()))
        assert messages(database) == []

    def test_ids_sort_by_time_and_are_never_the_same(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda _: builds.new_build_id(), range(2000)))
        assert len(set(ids)) == 2000
        assert all(len(one) == 26 and one.isalnum() and one == one.lower() for one in ids)
        time.sleep(0.002)
        assert builds.new_build_id() > max(ids)

    @pytest.mark.parametrize("build_id", ["", "x", "0" * 26, "\x00", "é" * 26, "0" * 100_000, "0" * 25 + "\x00"])
    def test_whatever_is_no_id_is_unknown(self, database: Database, build_id: str) -> None:
        with pytest.raises(BuildUnknown), database.read() as session:
            builds.get(session, build_id)


class TestClaim:
    def test_is_for_the_stage_that_is_due_and_no_other(self, database: Database) -> None:
        build_id = submit(database)
        with database.write() as session:
            assert builds.claim(session, build_id, SCAN, "w", 60) is None
            assert builds.claim(session, build_id, RELEASE, "w", 60) is None
            assert builds.claim(session, "0" * 26, BUILD, "w", 60) is None
            assert builds.claim(session, build_id, BUILD, "w", 60) is not None
            assert builds.claim(session, build_id, BUILD, "w", 60) is None

    def test_is_won_by_one_of_many_threads(self, database: Database) -> None:
        for _ in range(5):
            build_id = submit(database)
            barrier = threading.Barrier(12)

            def attempt(number: int, build_id: str = build_id, barrier: threading.Barrier = barrier) -> Claim | None:
                barrier.wait()
                with database.write() as session:
                    return builds.claim(session, build_id, BUILD, f"w{number}", 60)

            with ThreadPoolExecutor(12) as pool:
                won = [found for found in pool.map(attempt, range(12)) if found]
            assert len(won) == 1
            assert won[0].token == 1

    def test_is_won_by_one_of_many_processes(self, database: Database, url: str) -> None:
        ids = [submit(database) for _ in range(20)]
        context = multiprocessing.get_context("forkserver")
        start, answers = context.Barrier(3), context.Queue()
        workers = [context.Process(target=_claim_all, args=(url, ids, start, answers)) for _ in range(3)]
        for worker in workers:
            worker.start()
        won = [answers.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join(30)
        assert sorted(one for part in won for one in part) == sorted(ids)

    def test_of_the_next_stage_follows_its_completion(self, database: Database) -> None:
        build_id = submit(database)
        complete(database, claim(database, build_id), build={"a": 1})
        assert messages(database) == [(build_id, "scan")]
        complete(database, claim(database, build_id, SCAN), scan={"b": 2})
        assert messages(database) == [(build_id, "release")]
        complete(database, claim(database, build_id, RELEASE))
        assert state(database, build_id) == "released"
        assert messages(database) == []
        with database.read() as session:
            build = builds.get(session, build_id)
            assert build.evidence == {"build": {"a": 1}, "scan": {"b": 2}}
            assert build.finished_at is not None
            assert build.lease_until is None


def _claim_all(url: str, ids: list[str], start: object, answers: multiprocessing.Queue[list[str]]) -> None:
    database = Database(url)
    start.wait()  # type: ignore[attr-defined]
    won = []
    for build_id in ids:
        with database.write() as session:
            if builds.claim(session, build_id, BUILD, "w", 60):
                won.append(build_id)
    answers.put(won)


class TestLease:
    def test_that_is_renewed_does_not_expire(self, database: Database) -> None:
        held = claim(database, submit(database), lease=60)
        now = [0.0]
        silence = Silence(lambda: now[0])
        for _ in range(3):
            now[0] += 50
            with database.write() as session:
                assert silence.look(session) == []
                builds.renew(session, held, 60)

    @pytest.mark.parametrize("jump", [3600, -3600])
    def test_neither_ends_nor_lasts_because_a_clock_is_set(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, jump: float
    ) -> None:
        claim(database, submit(database), lease=60)
        real, now = time.time, [0.0]
        silence = Silence(lambda: now[0])
        with database.write() as session:
            assert silence.look(session) == []
            monkeypatch.setattr(time, "time", lambda: real() + jump)
            now[0] = 59
            assert silence.look(session) == []
            now[0] = 61
            assert len(silence.look(session)) == 1

    def test_that_expires_is_found_and_its_holder_is_fenced_off(self, database: Database) -> None:
        build_id = submit(database)
        old = claim(database, build_id, lease=60)
        with database.write() as session:
            (found,) = silent(session, after=61)
            builds.retry(session, found, PROBLEM)
        self._fenced(database, old)
        new = claim(database, build_id)
        assert (new.attempt, old.attempt) == (2, 1)
        self._fenced(database, old)
        complete(database, new)
        self._fenced(database, old)

    def _fenced(self, database: Database, old: Claim) -> None:
        steps: list[Callable[..., object]] = [
            lambda session: builds.renew(session, old, 60),
            lambda session: builds.held_build(session, old),
            lambda session: builds.complete(session, old),
        ]
        for step in steps:
            with pytest.raises(LeaseLost), database.write() as session:
                step(session)
        with database.write() as session:
            assert not journal.append_log(session, old.build_id, [journal.Line(0, "x", "late")], token=old.token)
        with database.read() as session:
            assert journal.log_after(session, old.build_id, 0) == []

    def test_of_a_worker_that_lives_is_not_found(self, database: Database) -> None:
        claim(database, submit(database))
        submit(database)
        with database.write() as session:
            assert silent(session, after=59) == []

    def test_is_looked_after_by_one_dispatcher_at_a_time(self, database: Database) -> None:
        build_id = submit(database)
        claim(database, build_id, lease=60)
        with ThreadPoolExecutor(6) as pool:

            def reap(_: int) -> int:
                with database.write() as session:
                    found = silent(session, after=61)
                    for build in found:
                        builds.retry(session, build, PROBLEM)
                    return len(found)

            assert sum(pool.map(reap, range(6))) == 1
        with database.read() as session:
            assert builds.get(session, build_id).attempt == 2


class TestCancel:
    def test_ends_what_no_worker_holds_at_once(self, database: Database) -> None:
        build_id = submit(database)
        with database.write() as session:
            builds.request_cancel(session, build_id)
        with database.read() as session:
            build = builds.get(session, build_id)
            assert build.state == "cancelled"
            assert build.problem is not None
            assert build.problem["type"] == "/problems/cancelled"
        with database.write() as session:
            assert builds.claim(session, build_id, BUILD, "w", 60) is None

    def test_tells_a_worker_with_its_next_heartbeat(self, database: Database) -> None:
        build_id = submit(database)
        held = claim(database, build_id)
        with database.write() as session:
            builds.request_cancel(session, build_id)
        assert state(database, build_id) == "building"
        with pytest.raises(Cancelled), database.write() as session:
            builds.renew(session, held, 60)

    def test_between_two_stages_ends_it_and_leaves_what_is_staged_to_be_swept(self, database: Database) -> None:
        build_id = submit(database)
        held = claim(database, build_id)
        with database.write() as session:
            builds.held_build(session, held).staging_repository = "golden/web"
            builds.complete(session, held)
            builds.request_cancel(session, build_id)
        assert state(database, build_id) == "cancelled"
        with database.read() as session:
            assert builds.ended_but_staged(session) == [build_id]

    @pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED])
    def test_of_what_has_ended_is_refused(self, database: Database, end: State) -> None:
        build_id = submit(database)
        with database.write() as session:
            builds.end(session, builds.get(session, build_id), end, PROBLEM)
        with pytest.raises(AlreadyFinal, match=f"already {end}"), database.write() as session:
            builds.request_cancel(session, build_id)

    def test_of_nothing_is_refused(self, database: Database) -> None:
        with pytest.raises(BuildUnknown), database.write() as session:
            builds.request_cancel(session, "0" * 26)

    def test_and_claim_at_the_same_moment_agree_on_who_was_first(self, database: Database) -> None:
        for _ in range(15):
            build_id = submit(database)
            barrier = threading.Barrier(2)

            def cancel(build_id: str = build_id, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                with database.write() as session:
                    builds.request_cancel(session, build_id)

            def take(build_id: str = build_id, barrier: threading.Barrier = barrier) -> Claim | None:
                barrier.wait()
                with database.write() as session:
                    return builds.claim(session, build_id, BUILD, "w", 60)

            with ThreadPoolExecutor(2) as pool:
                asked, taken = pool.submit(cancel), pool.submit(take)
                asked.result()
                held = taken.result()
            with database.read() as session:
                build = builds.get(session, build_id)
                assert build.cancel_requested
                assert build.state == ("building" if held else "cancelled")

    def test_waits_for_whoever_is_about_to_claim(self, database: Database) -> None:
        build_id = submit(database)
        claimed = threading.Event()

        def cancel() -> None:
            claimed.wait()
            with database.write() as session:
                builds.request_cancel(session, build_id)

        with ThreadPoolExecutor(1) as pool:
            with database.write() as session:
                held = builds.claim(session, build_id, BUILD, "w", 60)
                asked = pool.submit(cancel)
                claimed.set()
                time.sleep(0.2)
            asked.result()
        assert held is not None
        with database.read() as session:
            build = builds.get(session, build_id)
            assert (build.state, build.token, build.cancel_requested) == ("building", held.token, True)


def test_a_read_sees_one_moment(database: Database) -> None:
    build_id = submit(database)
    with database.read() as session:
        assert builds.get(session, build_id).state == "queued"
        claim(database, build_id)
        session.expire_all()
        assert builds.get(session, build_id).state == "queued"
    assert state(database, build_id) == "building"
