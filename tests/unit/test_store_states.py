"""The state machine: what is not in the table cannot happen, whatever order things come in."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from sqlalchemy import select

from builder.errors import Cancelled, Problem
from builder.store import builds
from builder.store.builds import AlreadyFinal, Claim, LeaseLost, Submission
from builder.store.database import Database
from builder.store.schema import OutboxRow
from builder.store.states import BUILD, PATHS, STAGES, Purpose, Stage, State, TransitionRefused, check_transition
from tests.unit.stored import PROBLEM

# Written out a second time, on purpose.
ALLOWED = {
    "waiting": "queued failed cancelled",
    "queued": "building resolving planning rebuilding comparing failed cancelled",
    "building": "built queued released failed cancelled",
    "built": "scanning failed cancelled",
    "scanning": "scanned built failed cancelled",
    "scanned": "releasing failed cancelled",
    "releasing": "released scanned failed cancelled",
    "released": "",
    "resolving": "locked queued failed cancelled",
    "locked": "",
    "planning": "planned queued failed cancelled",
    "planned": "",
    "rebuilding": "reproduced queued failed cancelled",
    "reproduced": "",
    "comparing": "compared queued failed cancelled",
    "compared": "",
    "failed": "",
    "cancelled": "",
}
# The ways that a build of each purpose can go when nothing goes wrong; a release also straight from building.
WAYS = {
    Purpose.RELEASE: "queued building built scanning scanned releasing released",
    Purpose.LOCK: "queued resolving locked",
    Purpose.PLAN: "queued planning planned",
    Purpose.REBUILD: "queued rebuilding reproduced",
    Purpose.COMPARE: "queued comparing compared",
}
ENDS = "failed cancelled"


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_a_transition_is_in_the_table_or_refused(before: State, after: State) -> None:
    if after in ALLOWED[before].split():
        check_transition(before, after)
    else:
        with pytest.raises(TransitionRefused, match=f"from {before} to {after}"):
            check_transition(before, after)


def test_seven_states_are_final_and_nothing_leaves_them() -> None:
    final = "released locked planned reproduced compared failed cancelled"
    assert {state for state in State if state.final} == set(final.split())
    assert all(not ALLOWED[state] for state in State if state.final)


@pytest.mark.parametrize("purpose", Purpose)
def test_each_stage_begins_where_the_one_before_it_ends(purpose: Purpose) -> None:
    way = [state for stage in PATHS[purpose] for state in (stage.ready, stage.running, stage.done)]
    repeated = [before for before, after in pairwise(way) if before == after]
    assert repeated == [stage.ready for stage in PATHS[purpose][1:]]
    assert list(dict.fromkeys(way)) == WAYS[purpose].split()


def test_every_stage_is_of_one_purpose_and_has_a_running_state_of_its_own() -> None:
    assert sorted(stage.running for path in PATHS.values() for stage in path) == sorted(s.running for s in STAGES)
    assert len({stage.running for stage in STAGES}) == len(STAGES)
    # A dry run resolves: who takes the one takes the other.
    assert [stage.queue for stage in STAGES] == ["build", "scan", "release", "resolve", "resolve", "rebuild", "compare"]


class Life(RuleBasedStateMachine):
    """One build, claimed, renewed, completed, lost, cancelled and failed in any order, by holders old and new."""

    claims = Bundle("claims")
    purpose: Purpose

    @initialize(purpose=st.sampled_from(Purpose))
    def submit(self, purpose: Purpose) -> None:
        self.purpose = purpose
        self.database = Database("sqlite://")
        self.database.migrate()
        submission = Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci", purpose=purpose)
        with self.database.write() as session:
            self.id = builds.submit(session, submission).id
        self.states = [State.QUEUED]
        self.holder: Claim | None = None
        self.token = 0

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()

    def _state(self) -> State:
        return self.states[-1]

    def _went(self, state: State) -> None:
        assert state in ALLOWED[self._state()].split()
        assert state in f"{WAYS[self.purpose]} {ENDS}".split(), "no build goes another purpose's way"
        self.states.append(state)
        self.holder = None

    @rule(target=claims, stage=st.sampled_from(STAGES))
    def claim(self, stage: Stage) -> object:
        with self.database.write() as session:
            claim = builds.claim(session, self.id, stage, "w", 60)
        assert (claim is not None) == (stage in PATHS[self.purpose] and self._state() is stage.ready)
        if claim is None:
            return multiple()
        self._went(stage.running)
        self.holder = claim
        return claim

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        with self.database.write() as session:
            if claim == self.holder:
                builds.renew(session, claim, 60)
            else:
                with pytest.raises(LeaseLost):
                    builds.renew(session, claim, 60)

    @rule(claim=claims)
    def complete(self, claim: Claim) -> None:
        with self.database.write() as session:
            if claim == self.holder:
                builds.complete(session, claim, seen=len(self.states))
            else:
                with pytest.raises(LeaseLost):
                    builds.complete(session, claim)
                return
        self._went(claim.stage.done)

    @rule(claim=claims)
    def find_it_released_before(self, claim: Claim) -> None:
        if claim != self.holder or claim.stage is not BUILD:
            return
        with self.database.write() as session:
            builds.complete(session, claim, unchanged={"build_id": "0" * 26})
        self._went(State.RELEASED)

    @rule()
    def lose_the_worker(self) -> None:
        if self.holder is None:
            return
        with self.database.write() as session:
            builds.retry(session, builds.get(session, self.id), PROBLEM)
        self._went(self.holder.stage.ready)

    @rule()
    def fail(self) -> None:
        with self.database.write() as session:
            build = builds.get(session, self.id)
            problem = Problem(type="/problems/x", title="x", status=422, detail="x")
            if self._state().final:
                with pytest.raises(TransitionRefused):
                    builds.end(session, build, State.FAILED, problem)
                session.expunge(build)
                return
            builds.end(session, build, State.FAILED, problem)
        self._went(State.FAILED)

    @rule()
    def cancel(self) -> None:
        with self.database.write() as session:
            if self._state().final:
                with pytest.raises(AlreadyFinal):
                    builds.request_cancel(session, self.id)
                return
            builds.request_cancel(session, self.id)
        if self.holder is None:
            self._went(State.CANCELLED)
            return
        with self.database.write() as session:
            with pytest.raises(Cancelled):
                builds.renew(session, self.holder, 60)
            builds.end(session, builds.held_build(session, self.holder), State.CANCELLED, Cancelled("x").problem())
        self._went(State.CANCELLED)

    @invariant()
    def the_database_says_the_same(self) -> None:
        with self.database.read() as session:
            build = builds.get(session, self.id)
            assert build.state == self._state()
            assert (build.lease_until is not None) == (self.holder is not None)
            assert (build.finished_at is not None) == self._state().final
            assert build.token >= self.token
            self.token = build.token
            messages = list(session.scalars(select(OutboxRow.queue)))
        due = [stage.queue for stage in PATHS[self.purpose] if stage.ready is self._state()]
        assert messages == due, "one message while a stage is due, to its own queue, and none else"


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
