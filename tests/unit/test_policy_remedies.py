"""What a failed rule tells a person to do: something that can be done, in words that are true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from builder.cli.main import app
from builder.policy.demands import Demands
from builder.policy.effective import EffectivePolicy
from builder.policy.gate import evaluate
from builder.policy.rules import RULES
from builder.policy.verdict import GateFailed, RuleResult
from builder.recipes.model import Recipe
from builder.settings import Settings
from tests.unit.judged import facts
from tests.unit.test_policy_rules import CASES, UNKNOWN

# What each rule's failure must tell, of its first case in test_policy_rules: the thing to change, by its name.
TOLD = {
    "completeness": "keep dpkg's database", "database": "goldsmith database update", "vulnerabilities": "upgrade a 1",
    "updates": "goldsmith recipe lock", "secrets": "take it out", "misconfiguration": "m", "setuid": "removeSetuid",
    "worldWritable": "chmod o-w", "accounts": "lockPasswords", "user": "spec.user", "sshServers": "openssh-server",
    "keys": "mount them", "histories": "remove them", "devices": "remove them", "shells": "take the shell out",
    "packageManagers": "removePackageManager", "healthcheck": "spec.healthcheck", "licenses": "take a out",
    "packages": "take telnetd out", "base": "start from a base", "baseAge": "goldsmith build --update",
    "imageSize": "take packages out", "tests": "spec.tests", "hermetic": "take `network` off",
    "reproducible": "find the step",
}  # fmt: skip
FIRST = {name: (parameters, outside) for name, parameters, _, outside in reversed(CASES)}
ALL = [(name, parameters, outside) for name, parameters, _, outside in CASES] + [
    (name, {}, {fact: None}) for name, fact in UNKNOWN
]


def failed(name: str, parameters: dict[str, Any], changes: dict[str, Any]) -> tuple[RuleResult, list[str]]:
    """A rule's result, and all that is told to whoever must mend it."""
    rule = RULES[name]
    result = rule.apply(facts(**changes), rule.parameters.model_validate(parameters))
    assert not result.passed
    return result, [*(one.remedy for one in result.offenders), *([result.remedy] if result.remedy else [])]


def test_the_failure_of_each_rule_is_told_with_its_way_out() -> None:
    assert set(TOLD) == set(RULES)
    for name, (parameters, changes) in FIRST.items():
        _, told = failed(name, parameters, changes)
        assert TOLD[name] in told[0], name


@pytest.mark.parametrize("name", list(RULES))
def test_the_error_that_ends_the_build_names_field_and_way_out(name: str) -> None:
    parameters, changes = FIRST[name]
    policy = EffectivePolicy("acme", "7", Demands.model_validate({name: parameters}))
    verdict = evaluate(policy, facts(**changes))
    assert [rule.rule for rule in verdict.rules if not rule.passed] == [name]
    error = GateFailed.of(verdict)
    (result,) = (rule for rule in verdict.rules if not rule.passed)
    assert result.explanation in error.detail
    assert TOLD[name] in (error.errors[0].hint or "")
    assert error.errors[0].field == RULES[name].field


@pytest.mark.parametrize(("name", "parameters", "changes"), ALL)
def test_what_is_told_exists(name: str, parameters: dict[str, Any], changes: dict[str, Any]) -> None:
    result, told = failed(name, parameters, changes)
    for text in (*told, result.field or ""):
        for field in re.findall(r"\bspec(?:\.[A-Za-z]+)+", text):
            assert field in FIELDS, f"{name} tells of {field}"
        for setting in re.findall(r"\bGOLDSMITH_[A-Z_]+", text):
            assert setting.removeprefix("GOLDSMITH_").lower() in Settings.model_fields, f"{name} tells of {setting}"
        for words in re.findall(r"`goldsmith ([a-z ]+)", text):
            assert words.strip() in COMMANDS, f"{name} tells of goldsmith {words}"


def fields_of(model: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        own = f"{path}.{field.alias or name}".lstrip(".")
        yield own
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields_of(kind, own)


def commands_of(command: Any, path: str = "") -> Iterator[str]:
    yield path.strip()
    for name, one in getattr(command, "commands", {}).items():
        yield from commands_of(one, f"{path} {name}")


FIELDS = frozenset(fields_of(Recipe))
COMMANDS = frozenset(commands_of(typer.main.get_command(app)))
