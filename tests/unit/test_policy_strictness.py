"""Of two demands the strictest holds: asking again changes nothing, nor does the order, and nothing is loosened."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import Field

from builder.policy.demands import Demands
from builder.policy.rules import RULES
from builder.policy.strictness import (
    ALLOWED,
    DENIED,
    HIGHEST,
    LOWEST,
    NO,
    YES,
    Order,
    Parameters,
    looser_fields,
    ranked,
    stricter,
)
from tests.unit.test_policy_effective import TWO, demands

PATTERNS = st.lists(st.text("ab*?[]", max_size=3), max_size=4)
TEXTS = st.text("ab*", max_size=4)
RANKED = ranked("none", "low", "high")
VALUES: list[tuple[Order, st.SearchStrategy[Any]]] = [
    (LOWEST, st.none() | st.integers(0, 3)),
    (HIGHEST, st.none() | st.integers(0, 3)),
    (YES, st.booleans()),
    (NO, st.booleans()),
    (RANKED, st.sampled_from(["none", "low", "high"])),
    (DENIED, PATTERNS),
    (ALLOWED, st.none() | PATTERNS),
]
AN_ORDER = st.sampled_from(range(len(VALUES)))


def normal(value: Any) -> Any:
    return sorted(set(value)) if isinstance(value, list) else value


def drawn(data: st.DataObject, number: int) -> tuple[Order, list[Any]]:
    order, values = VALUES[data.draw(AN_ORDER)]
    return order, [data.draw(values) for _ in range(number)]


@given(st.data())
def test_the_same_demand_twice_is_the_same_demand(data: st.DataObject) -> None:
    order, (a,) = drawn(data, 1)
    assert order.meet(a, a) == normal(a)


@given(st.data())
def test_it_does_not_matter_who_demands_first(data: st.DataObject) -> None:
    order, (a, b) = drawn(data, 2)
    assert order.meet(a, b) == order.meet(b, a)


@given(st.data())
def test_what_was_demanded_stays_demanded(data: st.DataObject) -> None:
    order, (a, b) = drawn(data, 2)
    both = order.meet(a, b)
    assert order.meet(both, a) == both == order.meet(both, b)


@given(st.data())
def test_of_three_it_does_not_matter_which_two_meet_first(data: st.DataObject) -> None:
    order, (a, b, c) = drawn(data, 3)
    assume(order is not ALLOWED)  # of patterns that overlap, what both stand for has no pattern: less is allowed
    assert order.meet(order.meet(a, b), c) == order.meet(a, order.meet(b, c))


@given(PATTERNS, PATTERNS, TEXTS)
@settings(max_examples=2000)
def test_nothing_is_allowed_that_one_of_two_lists_does_not_allow(a: list[str], b: list[str], text: str) -> None:
    def allows(patterns: list[str]) -> bool:
        return any(fnmatchcase(text, one) for one in patterns)

    if allows(ALLOWED.meet(a, b)):
        assert allows(a)
        assert allows(b)


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        (["/usr/*"], ["/usr/bin/su"], ["/usr/bin/su"]),
        (["/usr/*"], ["/usr/bin/*", "/opt/a"], ["/usr/bin/*"]),
        (["*"], ["/a", "/b"], ["/a", "/b"]),
        (["/a"], ["/b"], []),
        (["/a*"], ["*b"], []),
        (["?"], ["*"], ["?"]),
        (["*]"], ["[*]"], []),
        (["/usr/*"], ["/usr/[ab]"], ["/usr/[ab]"]),
        (["?"], ["a"], []),
        (["[ab]"], ["a"], []),
        (["[ab]"], ["[ab]"], ["[ab]"]),
        (None, ["/b", "/a"], ["/a", "/b"]),
        (None, None, None),
        ([], None, []),
    ],
)  # fmt: skip
def test_a_list_of_what_is_allowed_meets_another_in_what_both_allow(a: Any, b: Any, both: Any) -> None:
    assert ALLOWED.meet(a, b) == both


class Each(Parameters):
    low: Annotated[int | None, LOWEST] = 3
    high: Annotated[int, HIGHEST] = 1
    yes: Annotated[bool, YES] = False
    no: Annotated[bool, NO] = True
    word: Annotated[str, RANKED] = "low"
    allowed: Annotated[list[str], ALLOWED] = Field(default=["/usr/*"])
    denied: Annotated[list[str], DENIED] = Field(default=["a"])


@pytest.mark.parametrize(
    ("asked", "looser"),
    [
        ({"low": 4}, True), ({"low": None}, True), ({"low": 3}, False), ({"low": 2}, False),
        ({"high": 0}, True), ({"high": 1}, False), ({"high": 2}, False),
        ({"yes": False}, False), ({"yes": True}, False), ({"no": True}, False), ({"no": False}, False),
        ({"word": "high"}, True), ({"word": "low"}, False), ({"word": "none"}, False),
        ({"allowed": ["/usr/*", "/opt/a"]}, True), ({"allowed": ["*"]}, True), ({"allowed": ["/usr/bin/su"]}, False),
        ({"allowed": []}, False), ({"allowed": ["/usr/b", "/usr/b", "/usr/a"]}, False),
        ({"denied": []}, True), ({"denied": ["b"]}, True), ({"denied": ["b", "a"]}, False),
    ],
)  # fmt: skip
def test_only_what_asks_for_less_is_looser(asked: dict[str, Any], looser: bool) -> None:
    assert looser_fields(Each.model_validate(asked), Each()) == (tuple(asked) if looser else ())


def test_what_nobody_wrote_is_not_looser_though_its_default_is() -> None:
    assert looser_fields(Each(), Each(low=1, high=5, yes=True, no=False, word="none")) == ()


def test_a_demand_for_yes_or_no_can_be_asked_for_less() -> None:
    assert looser_fields(Each(yes=False), Each(yes=True)) == ("yes",)
    assert looser_fields(Each(no=True), Each(no=False)) == ("no",)


@given(TWO)
def test_whole_rules_meet_as_their_parameters_do(two: Any) -> None:
    _, a, b = two
    assert stricter(a, a).told() == stricter(a, stricter(a, a)).told()
    assert stricter(a, b).told() == stricter(b, a).told()
    assert looser_fields(stricter(a, b), a) == ()


@given(demands(), demands())
def test_whole_policies_meet_in_the_same_whoever_comes_first(ours: Demands, theirs: Demands) -> None:
    ours, theirs = ours.tightened(ours), theirs.tightened(theirs)  # their lists sorted
    both = ours.tightened(theirs)
    assert both.told() == theirs.tightened(ours).told()
    assert both.tightened(ours).told() == both.told() == both.tightened(theirs).told()
    assert both.looser_than(ours) == both.looser_than(theirs) == []
    assert set(both.told()) == set(ours.told()) | set(theirs.told())


@given(demands())
def test_a_policy_as_it_was_told_is_the_same_policy(found: Demands) -> None:
    assert Demands.model_validate(found.told()).told() == found.told()
    assert {rule.name for rule in RULES.values() if rule.always} <= set(found.whole().told())
