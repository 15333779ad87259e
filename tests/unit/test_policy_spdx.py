"""Licence expressions: what can be satisfied with acceptable licences, and nothing that hides a denied one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.policy.spdx import Acceptable, holds


def held(expression: str, *, allow: set[str] | None = None, deny: frozenset[str] | set[str] = frozenset()) -> bool:
    return holds(expression, Acceptable(lambda name: allow is None or name in allow, lambda name: name in deny))


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("A", True), ("X", False), ("A OR X", True), ("X OR A", True), ("A AND X", False), ("X AND A", False),
        ("A AND B", True), ("X OR Y", False),
        ("A OR X AND X", True), ("X AND A OR X", False), ("X AND (A OR X)", False), ("(A OR X) AND B", True),
        ("((A))", True), ("(A)AND(B)", True), ("A and B", True), ("a OR X", False), ("  A  ", True),
        ("A WITH e", True), ("X WITH e", False), ("X WITH good", True), ("X WITH good AND A", True),
        ("X WITH good OR Y", True), ("X WITH good AND Y", False),
    ],
)  # fmt: skip
def test_or_needs_one_and_needs_every_one(expression: str, passes: bool) -> None:
    assert held(expression, allow={"A", "B", "X WITH good"}) is passes


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("G", False), ("A", True), ("G OR A", True), ("G AND A", False), ("G WITH e", False), ("A WITH bad", False),
        ("A WITH bad OR B", True), ("A WITH e", True),
    ],
)  # fmt: skip
def test_what_is_denied_is_not_acceptable_with_an_exception_either(expression: str, passes: bool) -> None:
    assert held(expression, deny={"G", "G WITH e", "A WITH bad"}) is passes


MALFORMED = [
    "A AND", "AND A", "(A", "A)", "()", "", "A A", "A WITH", "WITH A", "A OR OR B", "A (B)", "A WITH (B)",
    "(" * 200 + "A" + ")" * 200,
]  # fmt: skip


@pytest.mark.parametrize("expression", MALFORMED)
def test_what_is_no_expression_is_one_name(expression: str) -> None:
    assert not held(expression, allow={"A", "B"})
    assert held(expression, allow={expression.strip()})


@pytest.mark.parametrize("expression", ["G AND A AND", "A G", "see G (or A", "A OR G OR", "A WITH (G)"])
def test_what_is_no_expression_hides_no_denied_name(expression: str) -> None:
    assert not held(expression, deny={"G"})
    assert held(expression, deny={"H"})


def test_a_name_with_blanks_is_a_name() -> None:
    assert held("BSD 3 Clause License", allow={"BSD 3 Clause License"})


NAMES = st.sampled_from(["A", "B", "C", "D"])
EXPRESSIONS = st.recursive(
    NAMES, lambda inner: st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda one: f"({' '.join(one)})")
)


@given(EXPRESSIONS, st.sets(NAMES), st.sets(NAMES))
def test_it_says_what_the_words_say(expression: str, allow: set[str], deny: set[str]) -> None:
    words = expression.replace("AND", "and").replace("OR", "or")
    for name in "ABCD":
        words = words.replace(name, str(name in allow and name not in deny))
    assert held(expression, allow=allow, deny=deny) is eval(words)
    assert held(expression[1:-1] if expression[0] == "(" else expression, allow=allow, deny=deny) is eval(words)


@given(EXPRESSIONS, st.sets(NAMES), st.sets(NAMES), NAMES)
def test_denying_more_and_allowing_less_never_lets_more_pass(
    expression: str, allow: set[str], deny: set[str], name: str
) -> None:
    if held(expression, allow=allow - {name}, deny=deny) or held(expression, allow=allow, deny=deny | {name}):
        assert held(expression, allow=allow, deny=deny)
