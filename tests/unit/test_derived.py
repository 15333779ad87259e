"""What is worked out of a frozen model is worked out once for each model, and of another one anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import BaseModel, ConfigDict

from builder.derived import derived


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)

    names: list[str]


def _counting(maxsize: int = 4) -> tuple[Callable[[_Model, str], str], list[str]]:
    calls: list[str] = []

    @derived(maxsize)
    def joined(model: _Model, by: str) -> str:
        calls.append(by)
        return by.join(model.names)

    return joined, calls


def test_the_same_model_is_asked_once() -> None:
    joined, calls = _counting()
    model = _Model(names=["a", "b"])
    assert [joined(model, "-"), joined(model, "-")] == ["a-b", "a-b"]
    assert calls == ["-"]


def test_other_arguments_are_another_question() -> None:
    joined, calls = _counting()
    model = _Model(names=["a", "b"])
    assert [joined(model, "-"), joined(model, "+")] == ["a-b", "a+b"]
    assert calls == ["-", "+"]


def test_a_model_that_takes_the_place_of_another_in_memory_is_not_taken_for_it() -> None:
    joined, _ = _counting(maxsize=1)
    # Each is gone before the next is made, but for what the cache keeps alive.
    assert [joined(_Model(names=[str(number)]), "-") for number in range(1000)] == [str(n) for n in range(1000)]


def test_a_name_is_refused_as_it_would_not_be_part_of_the_key() -> None:
    joined, _ = _counting()
    with pytest.raises(AssertionError):
        joined(_Model(names=[]), by="-")  # type: ignore[call-arg]
