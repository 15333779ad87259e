"""One stage of one build: however the work ends, the build ends or goes on, and only its holder touches it."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from builder.errors import Broken, ProgramTimedOut, Rejected, Unavailable
from builder.pipeline.journal import Journal
from builder.pipeline.stage import Task, run_stage
from builder.pipeline.watch import Watch
from builder.recipes.reading import canonical_json, read_recipe, recipe_digest
from builder.store import builds
from builder.store import journal as rows
from builder.store.builds import AlreadyFinal, Claim, LeaseLost, Submission
from builder.store.database import Database, DatabaseUnavailable
from builder.store.schema import Build, OutboxRow
from builder.store.states import BUILD, RELEASE, SCAN, Stage, State
from tests.unit.stored import PROBLEM, silent

pytest_plugins = ["tests.unit.databases"]
RECIPE = read_recipe(
    "apiVersion: goldsmith/v1\nkind: Image\nmetadata: {name: web}\n"
    "spec:\n  base: {recipe: debian}\n  publish: {repository: golden/web}\n"
)


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    found = Database(f"sqlite:///{tmp_path / 'goldsmith.db'}")
    yield found
    found.close()


@pytest.fixture
def build_id(database: Database) -> str:
    asked = Submission("web", recipe_digest(RECIPE), canonical_json(RECIPE).decode(), "request", "ci")
    with database.write() as session:
        return builds.submit(session, asked).id


class Cleaned:
    """A clean-up that notes in which state the build was when it was called."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.states: list[str] = []

    def __call__(self, build_id: str) -> None:
        self.states.append(look(self._database, build_id).state)


@pytest.fixture
def cleaned(database: Database) -> Cleaned:
    return Cleaned(database)


def run(
    database: Database,
    build_id: str,
    work: Callable[[Task], dict[str, Any]],
    clean_up: Callable[[str], None],
    stage: Stage = BUILD,
    lease_seconds: float = 60,
    maximum_attempts: int = 1,
) -> State | None:
    outcome = run_stage(
        database, stage, build_id, work, clean_up,
        lease_seconds=lease_seconds, log_limit=10_000, maximum_attempts=maximum_attempts,
    )  # fmt: skip
    return outcome.state if outcome is not None else None


def look(database: Database, build_id: str) -> Build:
    with database.read() as session:
        build = builds.get(session, build_id)
        session.expunge(build)
        return build


def log(database: Database, build_id: str) -> list[str]:
    with database.read() as session:
        return [line.text for line in rows.log_after(session, build_id, 0)]


def take_over(database: Database, build_id: str) -> Claim:
    """What the reaper and another worker do with a build whose worker is silent."""
    with database.write() as session:
        builds.retry(session, builds.get(session, build_id), PROBLEM)
    with database.write() as session:
        claim = builds.claim(session, build_id, BUILD, "another", 60)
    assert claim is not None
    return claim


def until(holds: Callable[[], bool], patience: float = 5) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestStage:
    def test_that_ends_well_hands_its_evidence_on(self, database: Database, build_id: str, cleaned: Cleaned) -> None:
        def work(task: Task) -> dict[str, Any]:
            assert task.recipe == RECIPE
            assert task.build.state == "building"
            with task.journal.step("run") as step:
                step.log("hello")
            return {"build": {"a": 1}}

        assert run(database, build_id, work, cleaned) is State.BUILT
        assert look(database, build_id).evidence == {"build": {"a": 1}}
        assert log(database, build_id) == ["hello"]
        assert cleaned.states == []

    def test_that_is_not_due_is_not_begun(self, database: Database, build_id: str, cleaned: Cleaned) -> None:
        def work(task: Task) -> dict[str, Any]:
            pytest.fail("not ours")

        assert run(database, build_id, work, cleaned, SCAN) is None
        assert run(database, "0" * 26, work, cleaned) is None
        assert look(database, build_id).state == "queued"
        assert cleaned.states == []

    def test_that_is_refused_fails_with_its_problem_and_is_cleaned_up_once(
        self, database: Database, build_id: str, cleaned: Cleaned
    ) -> None:
        def work(task: Task) -> dict[str, Any]:
            raise Rejected("no such package", hint="did you mean another?")

        assert run(database, build_id, work, cleaned) is State.FAILED
        problem = look(database, build_id).problem
        assert problem is not None
        assert (problem["type"], problem["detail"]) == ("/problems/rejected", "no such package")
        assert problem["hint"] == "did you mean another?"
        assert cleaned.states == ["failed"]

    def test_that_breaks_fails_and_tells_its_requester_no_detail(
        self, database: Database, build_id: str, cleaned: Cleaned, caplog: pytest.LogCaptureFixture
    ) -> None:
        def work(task: Task) -> dict[str, Any]:
            task.journal.add("run", "before")
            raise KeyError("hunter2 at /srv/secret")

        assert run(database, build_id, work, cleaned) is State.FAILED
        build = look(database, build_id)
        assert build.problem is not None
        assert build.problem["type"] == "/problems/internal-error"
        assert "hunter2" not in str(build.problem)
        assert build.problem["detail"] == "the build stage broke: KeyError"
        assert log(database, build_id) == ["before"]
        assert cleaned.states == ["failed"]
        assert "hunter2" in caplog.text, "an operator must see it"

    def test_whose_recipe_cannot_be_read_fails_and_leaves_no_claim(
        self, database: Database, build_id: str, cleaned: Cleaned
    ) -> None:
        with database.write() as session:
            session.execute(update(Build).values(recipe='{"hunter2": 1}'))
        assert run(database, build_id, lambda task: {}, cleaned) is State.FAILED
        assert "hunter2" not in str(look(database, build_id).problem)

    def test_whose_clean_up_fails_has_failed_all_the_same(self, database: Database, build_id: str) -> None:
        def work(task: Task) -> dict[str, Any]:
            raise Rejected("no")

        def clean_up(build_id: str) -> None:
            raise Unavailable("the registry is away")

        assert run(database, build_id, work, clean_up) is State.FAILED
        assert look(database, build_id).state == "failed"

    @pytest.mark.parametrize("error", [Unavailable("the registry is away"), Rejected("refused"), KeyError("broken")])
    def test_past_its_point_of_no_return_is_taken_up_again_whatever_fails(
        self, database: Database, build_id: str, cleaned: Cleaned, error: Exception
    ) -> None:
        with database.write() as session:
            session.execute(update(Build).values(state=State.SCANNED))

        def work(task: Task) -> dict[str, Any]:
            with database.write() as session:
                builds.get(session, build_id).evidence = {"release": {"recorded": True}}
            raise error

        assert run(database, build_id, work, cleaned, RELEASE) is State.SCANNED
        build = look(database, build_id)
        assert (build.state, build.attempt, build.problem) == ("scanned", 2, None)
        assert cleaned.states == []
        with database.read() as session:
            sent = [(row.queue, row.due_at) for row in session.scalars(select(OutboxRow).order_by(OutboxRow.id))]
        assert [queue for queue, _ in sent] == ["build", "release"]
        assert sent[-1][1] > time.time() + 1, "not at once: what failed needs time"
        with database.write() as session, pytest.raises(AlreadyFinal):
            builds.request_cancel(session, build_id)


class TestRetry:
    @pytest.mark.parametrize("error", [Unavailable("the registry is away"), OSError(errno.ENOSPC, "full")])
    def test_of_what_may_pass_comes_later_and_says_why(
        self, database: Database, build_id: str, cleaned: Cleaned, error: Exception
    ) -> None:
        def work(task: Task) -> dict[str, Any]:
            raise error

        assert run(database, build_id, work, cleaned, maximum_attempts=2) is State.QUEUED
        build = look(database, build_id)
        (why,) = build.retries
        kind = "unavailable" if isinstance(error, Unavailable) else "storage-full"
        assert (build.attempt, why["attempt"], why["state"]) == (2, 1, "building")
        assert why["type"] == f"/problems/{kind}"
        with database.read() as session:
            assert session.scalars(select(OutboxRow.due_at)).one() > time.time() + 4
        assert cleaned.states == []
        assert run(database, build_id, work, cleaned, maximum_attempts=2) is State.FAILED
        assert look(database, build_id).problem is not None
        assert cleaned.states == ["failed"]

    @pytest.mark.parametrize("error", [Rejected("no"), Broken("we are"), ProgramTimedOut("it took 1800 s"), KeyError()])
    def test_of_what_will_not_pass_there_is_none(
        self, database: Database, build_id: str, cleaned: Cleaned, error: Exception
    ) -> None:
        def work(task: Task) -> dict[str, Any]:
            raise error

        assert run(database, build_id, work, cleaned, maximum_attempts=5) is State.FAILED
        assert look(database, build_id).retries == []

    def test_of_what_was_cancelled_meanwhile_there_is_none(
        self, database: Database, build_id: str, cleaned: Cleaned
    ) -> None:
        def work(task: Task) -> dict[str, Any]:
            with database.write() as session:
                builds.request_cancel(session, build_id)
            until(task.watch.should_stop)
            raise Unavailable("the registry is away")

        assert run(database, build_id, work, cleaned, maximum_attempts=5) is State.CANCELLED

    def test_rides_out_a_database_that_is_away_for_a_moment(
        self, database: Database, build_id: str, cleaned: Cleaned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = [3]
        completed = builds.complete

        def complete(*args: Any, **evidence: Any) -> Build:
            away[0] -= 1
            if away[0] >= 0:
                raise DatabaseUnavailable("the database does not answer")
            return completed(*args, **evidence)

        monkeypatch.setattr(builds, "complete", complete)
        assert run(database, build_id, lambda _: {}, cleaned) is State.BUILT
        assert look(database, build_id).attempt == 1


class TestCancel:
    def test_before_the_stage_begins_ends_it_without_work(
        self, database: Database, build_id: str, cleaned: Cleaned
    ) -> None:
        with database.write() as session:
            session.execute(update(Build).values(cancel_requested=True))

        def work(task: Task) -> dict[str, Any]:
            pytest.fail("somebody asked for an end")

        assert run(database, build_id, work, cleaned) is State.CANCELLED
        assert cleaned.states == ["cancelled"]

    def test_is_seen_within_about_a_second_whatever_the_work_then_says(
        self, database: Database, build_id: str, cleaned: Cleaned
    ) -> None:
        seen: list[float] = []

        def work(task: Task) -> dict[str, Any]:
            with database.write() as session:
                builds.request_cancel(session, build_id)
            asked = time.monotonic()
            until(task.watch.should_stop)
            seen.append(time.monotonic() - asked)
            raise Rejected("the container was killed")

        assert run(database, build_id, work, cleaned) is State.CANCELLED
        assert seen[0] < 2
        problem = look(database, build_id).problem
        assert problem is not None
        assert problem["type"] == "/problems/cancelled"
        assert cleaned.states == ["cancelled"]


class TestLostLease:
    def test_is_noticed_and_nothing_more_is_touched(self, database: Database, build_id: str, cleaned: Cleaned) -> None:
        others: list[Claim] = []

        def work(task: Task) -> dict[str, Any]:
            others.append(take_over(database, build_id))
            until(task.watch.should_stop)
            task.journal.add("run", "late")
            task.watch.check()
            return {}

        assert run(database, build_id, work, cleaned, lease_seconds=4) is None
        build = look(database, build_id)
        assert (build.state, build.token, build.attempt) == ("building", others[0].token, 2)
        assert build.problem is None
        assert log(database, build_id) == []
        assert cleaned.states == []

    def test_whose_work_comes_to_an_end_all_the_same_counts_for_nothing(
        self, database: Database, build_id: str, cleaned: Cleaned
    ) -> None:
        def work(task: Task) -> dict[str, Any]:
            take_over(database, build_id)
            return {"build": {"stale": True}}

        assert run(database, build_id, work, cleaned) is None
        assert look(database, build_id).evidence == {}
        assert cleaned.states == []

    def test_after_which_the_build_ended_has_staging_looked_through_once_more(
        self, database: Database, build_id: str, cleaned: Cleaned
    ) -> None:
        def work(task: Task) -> dict[str, Any]:
            with database.write() as session:
                build = builds.get(session, build_id)
                build.image_digest = "sha256:" + "a" * 64
                builds.end(session, build, State.FAILED, PROBLEM)
            return {"build": {}}  # it has sent something, and knows of nothing

        assert run(database, build_id, work, cleaned) is None
        with database.read() as session:
            assert builds.ended_but_staged(session) == [build_id]
        assert look(database, build_id).staging_repository == "golden/web"


class TestWatch:
    @pytest.fixture
    def claim(self, database: Database, build_id: str) -> Claim:
        with database.write() as session:
            found = builds.claim(session, build_id, BUILD, "w", 1)
        assert found is not None
        return found

    def test_renews_the_lease_while_it_stands(self, database: Database, build_id: str, claim: Claim) -> None:
        with Watch(database, claim, Journal(database, claim, 1000), 1):
            time.sleep(1.5)
            assert (look(database, build_id).lease_until or 0) > time.time()
            with database.write() as session:
                assert silent(session, after=0.9) == []
        assert not [thread for thread in threading.enumerate() if thread.name == f"watch-{build_id}"]

    def test_writes_the_log_as_it_comes(self, database: Database, build_id: str, claim: Claim) -> None:
        journal = Journal(database, claim, 1000)
        with Watch(database, claim, journal, 60):
            journal.add("run", "now")
            until(lambda: log(database, build_id) == ["now"], 2)

    def test_tells_of_a_lost_lease(self, database: Database, build_id: str, claim: Claim) -> None:
        with Watch(database, claim, Journal(database, claim, 1000), 1) as watch:
            take_over(database, build_id)
            until(watch.should_stop)
            with pytest.raises(LeaseLost):
                watch.check()

    def test_that_breaks_stops_the_stage(self, database: Database, claim: Claim) -> None:
        journal = Journal(database, claim, 1000)
        journal._lines.append(rows.Line(None, "run", "a line without a time"))  # type: ignore[arg-type]
        with Watch(database, claim, journal, 60) as watch:
            until(watch.should_stop)
            with pytest.raises(Broken, match="the watch over the build broke: IntegrityError"):
                watch.check()

    def test_rides_out_a_database_that_comes_back_in_time_and_gives_up_one_that_does_not(
        self, database: Database, build_id: str, claim: Claim, tmp_path: Path
    ) -> None:
        journal = Journal(database, claim, 1000)
        with Watch(database, claim, journal, 3) as watch:
            with database._engine.connect() as connection:
                connection.exec_driver_sql("ALTER TABLE builds RENAME TO away")
                connection.commit()
            time.sleep(1.2)
            assert not watch.should_stop()
            until(watch.should_stop, 8)
            with pytest.raises(LeaseLost, match="while the database was away"):
                watch.check()
