"""Which of two parameters is the stricter one: each is marked with an order, and two of them meet in the strictest.

What is asked for is looser than what is demanded exactly when the two meet in something else than what is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

Meeting = Callable[[Any, Any], Any]
# One character of several, as fnmatch reads it: `[abc]`, `[!abc]`, `[]abc]`.
_CHARACTERS = re.compile(r"\[!?\]?[^\]]*\]")


@dataclass(frozen=True)
class Order:
    """`meet` gives the strictest of two values; `told` says in words which way is stricter."""

    meet: Meeting
    told: str


def _or_none(meet: Meeting) -> Meeting:
    """None is no limit at all."""
    return lambda a, b: b if a is None else a if b is None else meet(a, b)


def _allowed_by_both(a: Sequence[str] | None, b: Sequence[str] | None) -> list[str] | None:
    """The patterns of either that stand for nothing which the other does not allow."""
    if a is None or b is None:
        found = b if a is None else a
        return None if found is None else sorted(set(found))
    return sorted({*(one for one in a if _within(one, b)), *(one for one in b if _within(one, a))})


def _within(pattern: str, others: Sequence[str]) -> bool:
    """Whether all that a pattern stands for is what one of the others stands for. Where the other has `*` alone that is
    so if the pattern, read as text, matches it; one that has `?` or `[` in it is compared as it is."""
    text = _CHARACTERS.sub("?", pattern)  # which stands for no less
    return any(pattern == one or (not set(one) & {"?", "["} and fnmatchcase(text, one)) for one in others)


def _union(a: Sequence[str], b: Sequence[str]) -> list[str]:
    return sorted({*a, *b})


LOWEST = Order(_or_none(min), "less is stricter")
HIGHEST = Order(_or_none(max), "more is stricter")
YES = Order(lambda a, b: a or b, "`true` is stricter")
NO = Order(lambda a, b: a and b, "`false` is stricter")
ALLOWED = Order(_allowed_by_both, "fewer are stricter")
DENIED = Order(_union, "more are stricter")


def ranked(*values: str) -> Order:
    """Of words, the strictest first."""
    return Order(
        lambda a, b: min(a, b, key=values.index), f"strictest first: {', '.join(f'`{one}`' for one in values)}"
    )


class Parameters(BaseModel):
    """The parameters of a rule. Unknown names are refused, so that a typo cannot open the gate."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    def told(self) -> dict[str, Any]:
        """As a policy writes them, as JSON."""
        return self.model_dump(mode="json", by_alias=True)


def order_of(model: type[Parameters], name: str) -> Order:
    return next(part for part in model.model_fields[name].metadata if isinstance(part, Order))


_Parameters = TypeVar("_Parameters", bound=Parameters)


def stricter(a: _Parameters, b: _Parameters) -> _Parameters:
    """What demands all that either demands."""
    kind = type(a)
    return kind.model_validate(
        {name: order_of(kind, name).meet(getattr(a, name), getattr(b, name)) for name in kind.model_fields}
    )


def looser_fields(asked: Parameters, demanded: Parameters) -> tuple[str, ...]:
    """The fields that somebody wrote in `asked` and that ask for less than `demanded`."""
    kind = type(asked)
    return tuple(
        name
        for name in kind.model_fields
        if name in asked.model_fields_set and _looser(kind, name, getattr(asked, name), getattr(demanded, name))
    )


def _looser(kind: type[Parameters], name: str, asked: Any, demanded: Any) -> bool:
    met = order_of(kind, name).meet(asked, demanded)
    return bool(sorted(set(asked)) != met if isinstance(asked, list) else met != asked)
