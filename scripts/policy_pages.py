"""A page for each rule of the gate, below docs/policy/rules: why there is such a rule, its parameters, the way out."""

from __future__ import annotations

import json
from typing import Any

from pydantic.fields import FieldInfo

from builder.policy.described import about, when_judged
from builder.policy.organisation import DEFAULT
from builder.policy.rule import PAGES, Rule
from builder.policy.rules import RULES
from builder.policy.strictness import Order


def policy_pages() -> dict[str, str]:
    """Each page's name below docs/ and text."""
    return {f"{PAGES}/README.md": _list(), **{rule.page: _page(rule) for rule in RULES.values()}}


def _list() -> str:
    lines = [
        "# Rules of the gate",
        "",
        "Made from `builder/policy/rules`; do not edit. [How policies work](../../policy.md).",
        "",
        "| rule | what holds | judged |",
        "| --- | --- | --- |",
        *(f"| [`{rule.name}`]({rule.name}.md) | {rule.title} | {when_judged(rule)} |" for rule in RULES.values()),
        "| [`custom.NAME`](custom.md) | What the organisation says in CEL | where a policy has it |",
    ]
    return "\n".join(lines) + "\n"


def _page(rule: Rule) -> str:
    field = f" In a recipe it is about `{rule.field}`." if rule.field else ""
    lines = [
        f"# `{rule.name}`: {rule.title}",
        "",
        "Made from its rule in `builder/policy/rules`; do not edit.",
        "",
        about(rule),
        "",
    ]
    lines += [f"Judged {when_judged(rule)}.{field}", "", f"**What makes it pass:** {rule.remedy}.", ""]
    if rule.parameters.model_fields:
        lines += ["| parameter | default | meaning | stricter |", "| --- | --- | --- | --- |"]
        lines += [_row(one.alias or name, one) for name, one in rule.parameters.model_fields.items()]
    else:
        lines += ["It has no parameters."]
    by_default = DEFAULT.spec.rules.of(rule)
    if by_default is not None and by_default.told() != rule.parameters().told():
        lines += ["", f"The default policy has it with `{json.dumps(by_default.told())}`."]
    lines += ["", "```yaml", "spec:", "  rules:", *_example(rule), "```"]
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    order = next(part for part in field.metadata if isinstance(part, Order))
    default = "none" if field.default is None else json.dumps(field.default)
    return f"| `{name}` | `{default}` | {field.description} | {order.told} |"


def _example(rule: Rule) -> list[str]:
    if not rule.example:
        return [f"    {rule.name}: {{}}"]
    return [f"    {rule.name}:", *(f"      {name}: {_yaml(value)}" for name, value in rule.example.items())]


def _yaml(value: Any) -> str:
    return json.dumps(value).strip('"') if isinstance(value, str) else json.dumps(value)
