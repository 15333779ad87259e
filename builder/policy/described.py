"""The rules as their users see them: what holds, when they judge, their parameters, which value is the stricter one."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.policy.organisation import DEFAULT
from builder.policy.rule import Rule
from builder.policy.rules import RULES
from builder.policy.strictness import order_of


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class ParameterDescribed(_Told):
    name: str
    default: Any
    meaning: str
    stricter: str = Field(examples=["fewer are stricter"])


class RuleDescribed(_Told):
    name: str = Field(examples=["setuid"])
    title: str
    about: str
    judged: str = Field(description="always; by default; or where a policy names it.")
    field: str | None = Field(description="Where in a recipe one sets what the rule is about.")
    remedy: str = Field(description="What makes it pass.")
    parameters: tuple[ParameterDescribed, ...]
    by_default: dict[str, Any] | None = Field(description="Its parameters in the default policy, if it is in there.")
    example: dict[str, Any]
    documentation: str = Field(examples=["policy/rules/setuid.md"])


def described_rules() -> tuple[RuleDescribed, ...]:
    """Every rule, in the order in which they judge."""
    return tuple(_described(rule) for rule in RULES.values())


def when_judged(rule: Rule) -> str:
    if rule.always:
        return "always"
    return "by default" if DEFAULT.spec.rules.of(rule) is not None else "where a policy names it"


def about(rule: Rule) -> str:
    """What its module says of it."""
    return inspect.getdoc(sys.modules[rule.judge.__module__]) or ""


def _described(rule: Rule) -> RuleDescribed:
    by_default = DEFAULT.spec.rules.of(rule)
    return RuleDescribed(
        name=rule.name,
        title=rule.title,
        about=about(rule),
        judged=when_judged(rule),
        field=rule.field,
        remedy=rule.remedy,
        parameters=tuple(
            ParameterDescribed(
                name=one.alias or name,
                default=one.get_default(call_default_factory=True),
                meaning=one.description or "",
                stricter=order_of(rule.parameters, name).told,
            )
            for name, one in rule.parameters.model_fields.items()
        ),
        by_default=by_default.told() if by_default is not None else None,
        example=rule.example,
        documentation=rule.page,
    )
