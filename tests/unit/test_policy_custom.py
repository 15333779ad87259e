"""Custom rules in CEL: true passes, and nothing else does."""

from __future__ import annotations

import time

import pytest

from builder.policy.custom import check_custom, example_facts, judge_custom
from builder.policy.organisation import CustomRule, OrganisationPolicy
from builder.policy.reading import PolicyInvalid, read_policy
from builder.policy.verdict import RuleResult
from tests.unit.judged import facts

LONG = "[" + ",".join(["1"] * 30) + "]"


def judged(expression: str, *, seconds: float = 5.0) -> RuleResult:
    rule = CustomRule(name="ours", title="Ours", expression=expression, remedy="change it")
    return judge_custom(rule, facts(), seconds=seconds)


def policy(expression: str) -> OrganisationPolicy:
    text = CustomRule(name="ours", title="T", expression=expression, remedy="R").model_dump_json()
    return read_policy(
        f"apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {{name: a, version: b}}\nspec: {{custom: [{text}]}}"
    )


def test_true_passes_and_false_says_what_to_change() -> None:
    assert judged("facts.packages.all(p, p.name != 'perl')").passed
    failed = judged("facts.packages.exists(p, p.name == 'perl')")
    assert not failed.passed
    assert failed.remedy == "change it"
    assert failed.rule == "custom.ours"


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("facts.pakages.size() == 0", "pakages"),
        ("pakages == 0", "undeclared reference"),
        ("facts.packages.", "Syntax error"),
        ("1", "not true or false"),
        ("'true'", "not true or false"),
        ("facts.packages[99].name == 'a'", "Index error"),
        ("1 / 0 == 1", "divide by zero"),
        ("facts.base.recipe > 1", "could not be evaluated"),
    ],
)
def test_what_cannot_be_answered_fails_and_says_why(expression: str, why: str) -> None:
    result = judged(expression)
    assert not result.passed
    assert why in result.explanation
    assert "counts as failed" in result.explanation


def test_what_does_not_end_fails_in_time() -> None:
    endless = f"{LONG}.all(a, {LONG}.all(b, {LONG}.all(c, {LONG}.all(d, {LONG}.all(e, a + b + c + d + e > 0)))))"
    begun = time.monotonic()
    assert not judged(endless, seconds=2.0).passed
    assert time.monotonic() - begun < 8


def test_an_answer_that_comes_too_late_fails() -> None:
    result = judged("true", seconds=0.001)
    assert not result.passed
    assert "counts as failed" in result.explanation


def test_a_pattern_that_backtracks_elsewhere_is_answered() -> None:
    assert judged(f"!'{'a' * 5000}b'.matches('(a+)+$')").passed


class TestBeforeUse:
    @pytest.mark.parametrize(
        ("expression", "hint"),
        [
            ("facts.pakages.size() == 0", "did you mean 'packages'?"),
            ("facts.packages.all(p, p.nmae != 'x')", "did you mean 'name'?"),
            ("facts.image.usr == '1'", "did you mean 'user'?"),
            ("1 + 1", "docs/policy.md has the facts"),
            ("fact.image", "docs/policy.md has the facts"),
        ],
    )
    def test_a_typo_in_an_expression_is_told_with_the_nearest_name(self, expression: str, hint: str) -> None:
        with pytest.raises(PolicyInvalid) as caught:
            check_custom(policy(expression))
        (fault,) = caught.value.errors
        assert (fault.field, fault.hint) == ("spec.custom[0].expression", hint)

    @pytest.mark.parametrize("expression", ["facts.hermetic", "facts.packages[7].name == 'a'", "1 / 0 == 1"])
    def test_what_depends_on_the_image_is_left_to_the_gate(self, expression: str) -> None:
        check_custom(policy(expression))

    def test_the_example_has_every_fact(self) -> None:
        empty = [name for name, value in example_facts() if value in (None, (), "")]
        assert empty == []
