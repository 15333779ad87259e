"""SPDX licence expressions (SPDX 2.3, annex D), as far as a gate needs them: which names must be acceptable."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")
_DEPTH = 50


def holds(expression: str, acceptable: Callable[[str], bool]) -> bool:
    """Whether a licence expression can be satisfied with acceptable licences alone.

    What is no expression, such as a name with blanks, is taken for one name.
    """
    tokens = _TOKEN.findall(expression)
    try:
        held, rest = _either(tokens, acceptable, 0)
    except (ValueError, IndexError):
        return acceptable(expression.strip())
    return held if not rest else acceptable(expression.strip())


def _either(tokens: list[str], acceptable: Callable[[str], bool], depth: int) -> tuple[bool, list[str]]:
    held, tokens = _both(tokens, acceptable, depth)
    while tokens and tokens[0].upper() == "OR":
        other, tokens = _both(tokens[1:], acceptable, depth)
        held = held or other
    return held, tokens


def _both(tokens: list[str], acceptable: Callable[[str], bool], depth: int) -> tuple[bool, list[str]]:
    held, tokens = _one(tokens, acceptable, depth)
    while tokens and tokens[0].upper() == "AND":
        other, tokens = _one(tokens[1:], acceptable, depth)
        held = held and other
    return held, tokens


def _one(tokens: list[str], acceptable: Callable[[str], bool], depth: int) -> tuple[bool, list[str]]:
    if depth > _DEPTH:
        raise ValueError("nested too deeply")
    first, rest = tokens[0], tokens[1:]
    if first == "(":
        held, rest = _either(rest, acceptable, depth + 1)
        if rest[0] != ")":
            raise ValueError("a parenthesis is not closed")
        return held, rest[1:]
    if first == ")" or first.upper() in ("AND", "OR", "WITH"):
        raise ValueError("an operator without its licence")
    if rest and rest[0].upper() == "WITH":
        return acceptable(f"{first} WITH {rest[1]}") or acceptable(first), rest[2:]
    return acceptable(first), rest
