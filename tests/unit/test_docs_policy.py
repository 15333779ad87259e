"""What the documentation says of policies is so: its examples are valid, its expressions hold, no fact is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from builder.policy.custom import example_facts, judge_custom
from builder.policy.facts import Account, BaseFacts, Facts, Files, ImageFacts
from builder.policy.organisation import CustomRule
from builder.policy.policy import Policy
from builder.policy.reading import read_policy
from builder.policy.rules import RULES
from builder.recipes.document import parse

ROOT = Path(__file__).parents[2]
POLICY = (ROOT / "docs/policy.md").read_text()
CUSTOM = (ROOT / "docs/policy/rules/custom.md").read_text()
HEAD = "apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: a, version: b}\n"
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXPRESSIONS = re.findall(r"^\| `((?:facts|timestamp)[^`]*)` \|", CUSTOM, re.MULTILINE)


def test_the_example_is_the_policy_that_ships() -> None:
    assert BLOCK.findall(POLICY)[0] == (ROOT / "policies/strict.yaml").read_text()


@pytest.mark.parametrize("page", sorted((ROOT / "docs/policy/rules").glob("*.md")), ids=lambda page: page.stem)
def test_the_example_of_each_page_is_valid(page: Path) -> None:
    for block in BLOCK.findall(page.read_text()):
        read_policy(HEAD + block)


def test_the_example_of_a_recipes_policy_is_valid() -> None:
    Policy.model_validate(parse(BLOCK.findall(POLICY)[1]).data["spec"]["policy"])


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_expressions_can_be_evaluated(expression: str) -> None:
    rule = CustomRule(name="a", title="T", expression=expression, remedy="R")
    assert "could not be evaluated" not in judge_custom(rule, example_facts()).explanation


def test_there_are_expressions() -> None:
    assert len(EXPRESSIONS) >= 7


@pytest.mark.parametrize("model", [Facts, ImageFacts, Files, Account, BaseFacts])
def test_every_fact_is_named(model: type[BaseModel]) -> None:
    assert [name for name in model.model_fields if f"`{name}`" not in POLICY] == []


def test_the_rules_that_always_judge_are_named() -> None:
    always = ", ".join(f"`{rule.name}`" for rule in RULES.values() if rule.always)
    assert f"by the defaults of their parameters:\n  {always}." in POLICY
