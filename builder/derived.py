"""What is worked out of a value that never changes, kept for whoever asks about the same value again."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def derived(maxsize: int) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """For a function of frozen models, and of what has a hash. It is called with positions alone.

    A model is the same if it is the same object: it has no hash, and to compare two takes as long as the work itself.
    So lists inside one must not be changed either. The models of the last `maxsize` calls are kept alive, those of
    requests too, so let these be few: a recipe has up to 8 MiB.
    """

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        work: Callable[..., _Result] = function
        kept = lru_cache(maxsize)(lambda key: work(*key.values))

        @wraps(function)
        def found(*values: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
            assert not named, "what is named is not part of the key"
            return kept(_Key(values))

        return found

    return decorate


class _Key:
    """Keeps its values alive: while it is there, no other model has the identity of one of them."""

    __slots__ = ("_hash", "values")

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values
        self._hash = hash(tuple(id(value) if isinstance(value, BaseModel) else value for value in values))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and all(map(_same, self.values, other.values))


def _same(one: object, other: object) -> bool:
    return one is other or (not isinstance(one, BaseModel) and one == other)
