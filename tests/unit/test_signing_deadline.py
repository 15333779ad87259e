"""Work ends in time, one way or the other, and its own errors come through."""

from __future__ import annotations

import threading
import time

import pytest

from builder.signing.deadline import within


def test_a_result_comes_through() -> None:
    assert within(5, lambda: 42) == 42


def test_an_error_comes_through() -> None:
    def fail() -> None:
        raise KeyError("own error")

    with pytest.raises(KeyError, match="own error"):
        within(5, fail)


def test_work_that_hangs_is_abandoned_in_time() -> None:
    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.2, release.wait)
    assert time.monotonic() - started < 2
    release.set()
