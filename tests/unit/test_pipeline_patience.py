"""Patience: what is away for a moment is asked again, what refuses is not, and nobody waits for ever or unstoppably."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builder.errors import Cancelled, GoldsmithError, Rejected, Unavailable
from builder.pipeline import patience
from builder.pipeline.patience import patiently


class Away(Unavailable):
    slug = "away"
    title = "It does not answer"


class Refused(Rejected):
    slug = "refused"
    title = "It said no"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_WAITS", (0.02, 0.02, 0.02))
    monkeypatch.setattr(patience, "_TICK", 0.005)


def failing(times: int, error: GoldsmithError) -> tuple[Callable[[], str], list[int]]:
    """Work that fails so often first, and the tries it took."""
    tries: list[int] = []

    def work() -> str:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return "done"

    return work, tries


def nothing() -> None:
    return None


def test_what_comes_back_is_waited_for_and_each_wait_is_told() -> None:
    work, tries = failing(2, Away("the log answered 503"))
    told: list[str] = []
    assert patiently(work, check=nothing, told=told.append) == "done"
    assert len(tries) == 3
    assert [line.startswith("the log answered 503: trying again in ") for line in told] == [True, True]


def test_what_stays_away_fails_in_the_end_with_its_own_reason() -> None:
    work, tries = failing(99, Away("gone"))
    with pytest.raises(Away, match="gone"):
        patiently(work, check=nothing, told=lambda _: None)
    assert len(tries) == 4


def test_a_refusal_is_not_asked_again() -> None:
    work, tries = failing(1, Refused("no"))
    with pytest.raises(Refused):
        patiently(work, check=nothing, told=lambda _: None)
    assert len(tries) == 1


def test_whoever_is_told_to_stop_does_not_go_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_WAITS", (60.0,))
    work, tries = failing(1, Away("gone"))

    def stop() -> None:
        raise Cancelled("the build was cancelled on request")

    with pytest.raises(Cancelled):
        patiently(work, check=stop, told=lambda _: None)
    assert len(tries) == 1
