"""The state machine: what is not in the table cannot happen, whatever order things come in."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from builder.errors import Cancelled, Problem
from builder.store import builds
from builder.store.builds import AlreadyFinal, Claim, LeaseLost, Submission
from builder.store.database import Database
from builder.store.schema import OutboxRow
from builder.store.states import STAGES, Stage, State, TransitionRefused, check_transition

# Written out a second time, on purpose.
ALLOWED = {
    "waiting": "queued failed cancelled",
    "queued": "building failed cancelled",
    "building": "built queued failed cancelled",
    "built": "scanning failed cancelled",
    "scanning": "scanned built failed cancelled",
    "scanned": "releasing failed cancelled",
    "releasing": "released scanned failed cancelled",
    "released": "",
    "failed": "",
    "cancelled": "",
}
SUBMISSION = Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci")


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_a_transition_is_in_the_table_or_refused(before: State, after: State) -> None:
    if after in ALLOWED[before].split():
        check_transition(before, after)
    else:
        with pytest.raises(TransitionRefused, match=f"from {before} to {after}"):
            check_transition(before, after)


def test_three_states_are_final_and_nothing_leaves_them() -> None:
    assert {state for state in State if state.final} == {State.RELEASED, State.FAILED, State.CANCELLED}
    assert all(not ALLOWED[state] for state in State if state.final)


def test_each_stage_begins_where_the_one_before_it_ends() -> None:
    assert [(stage.ready, stage.done) for stage in STAGES] == [
        (State.QUEUED, State.BUILT), (State.BUILT, State.SCANNED), (State.SCANNED, State.RELEASED),
    ]  # fmt: skip


class Life(RuleBasedStateMachine):
    """One build, claimed, renewed, completed, lost, cancelled and failed in any order, by holders old and new."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.database = Database("sqlite://")
        self.database.migrate()
        with self.database.write() as session:
            self.id = builds.submit(session, SUBMISSION).id
        self.states = [State.QUEUED]
        self.holder: Claim | None = None
        self.token = 0
        self.ready_entered = 1

    def teardown(self) -> None:
        self.database.close()

    def _state(self) -> State:
        return self.states[-1]

    def _went(self, state: State) -> None:
        assert state in ALLOWED[self._state()].split()
        self.states.append(state)
        self.holder = None
        self.ready_entered += state in {stage.ready for stage in STAGES}

    @rule(target=claims, stage=st.sampled_from(STAGES))
    def claim(self, stage: Stage) -> object:
        with self.database.write() as session:
            claim = builds.claim(session, self.id, stage, "w", 60)
        assert (claim is not None) == (self._state() is stage.ready)
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

    @rule()
    def lose_the_worker(self) -> None:
        if self.holder is None:
            return
        with self.database.write() as session:
            builds.retry(session, builds.get(session, self.id))
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
            messages = session.query(OutboxRow).count()
        assert messages == self.ready_entered, "one message for each time that a stage is due"


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
