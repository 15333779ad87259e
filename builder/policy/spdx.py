"""SPDX licence expressions (SPDX 2.3, annex D), as far as a gate needs them: which names must be acceptable."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")
_DEPTH = 50
_OPERATORS = ("AND", "OR", "WITH")


@dataclass(frozen=True)
class Acceptable:
    """What becomes of a name: it must be allowed and not denied. Both are asked with names as they are written."""

    allowed: Callable[[str], bool]
    denied: Callable[[str], bool]

    def __call__(self, name: str) -> bool:
        return self.allowed(name) and not self.denied(name)


def holds(expression: str, acceptable: Acceptable) -> bool:
    """Whether a licence expression can be satisfied with acceptable licences alone.

    What is no expression, such as a name with blanks, is taken for one name; no word of it may be denied either.
    """
    tokens = _TOKEN.findall(expression)
    try:
        held, rest = _either(tokens, acceptable, 0)
        if not rest:
            return held
    except (ValueError, IndexError):
        pass
    return acceptable(expression.strip()) and not any(map(acceptable.denied, tokens))


def _either(tokens: list[str], acceptable: Acceptable, depth: int) -> tuple[bool, list[str]]:
    held, tokens = _both(tokens, acceptable, depth)
    while tokens and tokens[0].upper() == "OR":
        other, tokens = _both(tokens[1:], acceptable, depth)
        held = held or other
    return held, tokens


def _both(tokens: list[str], acceptable: Acceptable, depth: int) -> tuple[bool, list[str]]:
    held, tokens = _one(tokens, acceptable, depth)
    while tokens and tokens[0].upper() == "AND":
        other, tokens = _one(tokens[1:], acceptable, depth)
        held = held and other
    return held, tokens


def _one(tokens: list[str], acceptable: Acceptable, depth: int) -> tuple[bool, list[str]]:
    if depth > _DEPTH:
        raise ValueError("nested too deeply")
    first, rest = tokens[0], tokens[1:]
    if first == "(":
        held, rest = _either(rest, acceptable, depth + 1)
        if rest[0] != ")":
            raise ValueError("a parenthesis is not closed")
        return held, rest[1:]
    if first == ")" or first.upper() in _OPERATORS:
        raise ValueError("an operator without its licence")
    if rest and rest[0].upper() == "WITH":
        if rest[1] in ("(", ")") or rest[1].upper() in _OPERATORS:
            raise ValueError("WITH needs the name of an exception")
        whole = f"{first} WITH {rest[1]}"
        return acceptable(whole) or (acceptable(first) and not acceptable.denied(whole)), rest[2:]
    return acceptable(first), rest
