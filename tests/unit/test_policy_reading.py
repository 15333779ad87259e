"""What is wrong with a policy is told by line, column, field and rule, with the way out, and reaches no gate."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.policy.checked import checked_policy
from builder.policy.custom import CustomRulesTooSlow, check_custom
from builder.policy.effective import effective
from builder.policy.gate import evaluate
from builder.policy.reading import PolicyInvalid, policy_from_data, read_policy, recipe_policy_from_data
from tests.unit.judged import facts

HEAD = "apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: acme, version: '7'}\n"
RULE = "    - {name: NAME, title: T, expression: 'true', remedy: R}\n"

# The text after HEAD's three lines; where; what; the way out.
INVALID = [
    ("spec: {rules: {setUid: {}}}\n", 4, 16, "spec.rules.setUid", "unknown key", "did you mean 'setuid'?"),
    ("spec:\n  rules:\n    tests: {minimun: 3}\n", 6, 13, "spec.rules.tests.minimun", "unknown key",
     "did you mean 'minimum'?"),
    ("spec:\n  rules:\n    tests: {minimum: 0}\n", 6, 13, "spec.rules.tests.minimum",
     "input should be greater than or equal to 1 (found 0)", None),
    ("spec:\n  rules:\n    vulnerabilities: {maximumSeverity: HIGH}\n", 6, 23,
     "spec.rules.vulnerabilities.maximumSeverity",
     "must be 'none', 'low', 'medium', 'high' or 'critical', not 'HIGH'", None),
    ("spec:\n  rules:\n    secrets: {allow: 'no'}\n", 6, 15, "spec.rules.secrets.allow",
     "must be true or false, not 'no'", None),
    ("spec:\n  custom:\n    - {name: a, title: T, expression: 'true'}\n", 6, 7, "spec.custom[0].remedy", "is required",
     None),
    ("spec:\n  custom:\n" + RULE.replace("NAME", "setuid"), 6, 8, "spec.custom[0].name",
     "'setuid' is the name of a rule of Goldsmith's own", "choose another"),
    ("spec:\n  custom:\n" + 2 * RULE.replace("NAME", "a"), 7, 8, "spec.custom[1].name",
     "two custom rules are named 'a'", "give one of them another name"),
    ("spec:\n  custom:\n" + RULE.replace("NAME", "a") + "  overrides:\n  - recipes: [x]\n    custom:\n"
     + RULE.replace("NAME", "a"), 10, 8, "spec.overrides[0].custom[0].name", "two custom rules are named 'a'",
     "give one of them another name"),
    ("spec:\n  rules: {tests: {minimum: 2}}\n  overrides:\n  - recipes: [x]\n    rules:\n      tests: {minimum: 1}\n",
     9, 15, "spec.overrides[0].rules.tests.minimum", "1 is looser than 2, which holds for every recipe",
     "an override only tightens"),
    ("spec:\n  custom:\n    - name: a\n      title: T\n      remedy: R\n      expression: facts.pakages.size() == 0\n",
     9, 7, "spec.custom[0].expression",
     'the rule a: NOT_FOUND: Key not found in map : "pakages"', "did you mean 'packages'?"),
    ("spec: {rules: &a {}}\n", 4, 15, None, "anchors and aliases are not allowed", "write the value out"),
    ("spec: {rules: {}, rules: {}}\n", 4, 19, None, "the key 'rules' stands twice", "keep one of them"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "field", "message", "hint"), INVALID)
def test_a_fault_is_told_with_its_place_and_the_way_out(
    text: str, line: int, column: int, field: str | None, message: str, hint: str | None
) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        checked_policy((HEAD + text).encode(), "acme.yaml")
    (fault,) = caught.value.errors
    assert (fault.line, fault.column, fault.field) == (line, column, field)
    assert fault.message == message
    assert fault.hint == hint
    assert caught.value.detail.startswith(f"acme.yaml: line {line}, column {column}: ")


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(PolicyInvalid) as caught:
        read_policy(HEAD + "spec:\n  rules: {userr: {}, tests: {minimum: 0}}\n  custm: []\n")
    assert [one.field for one in caught.value.errors] == ["spec.rules.userr", "spec.rules.tests.minimum", "spec.custm"]


@pytest.mark.parametrize(
    "rule",
    ["baseAge: {maximumDays: N}", "database: {maximumAgeHours: N}", "imageSize: {maximumUnpackedBytes: N}",
     "imageSize: {maximumCompressedBytes: N}", "tests: {minimum: N}", "updates: {maximum: N}", "user: {minimumUid: N}"],
)  # fmt: skip
@pytest.mark.parametrize("number", [2**31, 2**53, 10**17])
def test_a_number_that_the_gate_accepts_is_one_that_it_can_judge_by(rule: str, number: int) -> None:
    try:
        policy = read_policy(HEAD + f"spec: {{rules: {{{rule.replace('N', str(number))}}}}}")
    except PolicyInvalid:
        return
    demanded = effective(policy, "app")
    assert evaluate(demanded, facts()).rules
    assert demanded.identity.digest


DATA: dict[str, Any] = {"apiVersion": "goldsmith/v1", "kind": "Policy", "metadata": {"name": "a", "version": "1"}}


class TestAsJson:
    def test_is_the_same_policy(self) -> None:
        data = {**DATA, "spec": {"rules": {"setuid": {"allowed": ["/usr/bin/é\U0001f600"]}}}}
        found = policy_from_data(data).spec.rules.setuid
        assert found is not None
        assert found.allowed == ["/usr/bin/é\U0001f600"]

    def test_has_fields_but_no_lines_in_what_is_wrong(self) -> None:
        with pytest.raises(PolicyInvalid) as caught:
            policy_from_data({**DATA, "spec": {"rulez": {}}})
        (fault,) = caught.value.errors
        assert (fault.field, fault.line, fault.hint) == ("spec.rulez", None, "did you mean 'rules'?")
        assert "line" not in caught.value.detail

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner:
           st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10))  # fmt: skip
    def test_that_is_anything_is_refused_with_words(self, data: Any) -> None:
        with pytest.raises(PolicyInvalid):
            policy_from_data(data)

    def test_nested_without_end_is_refused(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(PolicyInvalid, match="nested too deeply"):
            policy_from_data(deep)


def test_a_recipes_own_policy_names_the_field_of_the_request() -> None:
    with pytest.raises(PolicyInvalid) as caught:
        recipe_policy_from_data({"maximumSeverty": "low"}, field="recipePolicy")
    (fault,) = caught.value.errors
    assert (fault.field, fault.hint) == ("recipePolicy.maximumSeverty", "did you mean 'maximumSeverity'?")


def test_the_custom_rules_have_a_limit_together_where_one_is_set() -> None:
    policy = read_policy(HEAD + "spec:\n  custom:\n" + RULE.replace("NAME", "a"))
    over = time.monotonic() - 1
    with pytest.raises(CustomRulesTooSlow):
        check_custom(policy, until=over)
    with pytest.raises(CustomRulesTooSlow):
        evaluate(effective(policy, "app"), facts(), until=over)
    assert evaluate(effective(policy, "app"), facts(), until=time.monotonic() + 60).passed
