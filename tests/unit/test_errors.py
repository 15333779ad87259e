"""Every error is a problem a person understands, keeps its words across processes, and knows its family."""

from __future__ import annotations

import pickle

import pytest

from builder.errors import Broken, Cancelled, Fault, GoldsmithError, Problem, ProgramFailed, Rejected, Unavailable
from builder.recipes.document import RecipeInvalid

SAMPLE = RecipeInvalid("it went wrong", hint="do better", errors=[Fault(message="bad", field="a.b", line=3, column=4)])


def test_a_problem_says_type_title_status_and_everything_else() -> None:
    assert SAMPLE.problem("/v1/x").model_dump() == {
        "type": "/problems/recipe-invalid",
        "title": "The recipe is not valid",
        "status": 422,
        "detail": "it went wrong",
        "instance": "/v1/x",
        "hint": "do better",
        "retryable": False,
        "errors": [{"message": "bad", "field": "a.b", "line": 3, "column": 4, "hint": None}],
    }
    assert SAMPLE.problem().slug == "recipe-invalid"


def test_a_problem_comes_back_from_json_with_members_that_we_do_not_know() -> None:
    text = SAMPLE.problem().model_dump_json()[:-1] + ', "trace": "x"}'
    found = Problem.model_validate_json(text)
    assert found.detail == "it went wrong"
    assert found.model_dump()["trace"] == "x"


def test_an_error_is_the_same_after_pickling() -> None:
    found = pickle.loads(pickle.dumps(SAMPLE))
    assert type(found) is RecipeInvalid
    assert found.problem() == SAMPLE.problem()
    assert str(found) == str(SAMPLE)


def test_the_evidence_of_a_failed_program_crosses_processes_too() -> None:
    found = pickle.loads(pickle.dumps(ProgramFailed("sh failed", exit_code=3, stderr_tail="why")))
    assert (found.detail, found.exit_code, found.stderr_tail) == ("sh failed", 3, "why")
    assert str(found) == "sh failed"
    assert found.args == ("sh failed",)


@pytest.mark.parametrize(
    ("family", "status", "retryable"), [(Rejected, 422, False), (Unavailable, 503, True), (Broken, 500, False)]
)
def test_the_family_decides_status_and_retry(family: type[GoldsmithError], status: int, retryable: bool) -> None:
    found = family("x").problem()
    assert (found.status, found.retryable) == (status, retryable)


def test_a_cancellation_is_no_fault_of_ours() -> None:
    assert issubclass(Cancelled, Rejected)
    assert not Cancelled("x").problem().retryable


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(message="bad"), "bad"),
        (Fault(message="bad", field="a[0]"), "a[0]: bad"),
        (Fault(message="bad", line=3, column=4), "line 3, column 4: bad"),
        (Fault(message="bad", hint="do x"), "bad (do x)"),
        (Fault(message="bad", field="a", line=3, column=4, hint="do x"), "line 3, column 4: a: bad (do x)"),
    ],
)
def test_a_fault_reads_as_a_sentence(fault: Fault, text: str) -> None:
    assert str(fault) == text


def test_an_error_shows_its_way_out() -> None:
    assert str(SAMPLE) == "it went wrong (do better)"
    assert str(Rejected("only this")) == "only this"
