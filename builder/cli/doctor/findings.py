"""What a check finds, and how checks are run: side by side, none for longer than a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum

from builder.errors import GoldsmithError


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """`mend` is the way out of what is not ok."""

    state: State
    detail: str
    mend: str | None = None


@dataclass(frozen=True)
class Check:
    """`look` raises GoldsmithError for what fails; its hint is then the way to mend it, unless it has none."""

    name: str
    look: Callable[[], Finding]
    mend: str


def ok(detail: str) -> Finding:
    return Finding(State.OK, detail)


def warn(detail: str, mend: str) -> Finding:
    return Finding(State.WARN, detail, mend)


def fail(detail: str, mend: str) -> Finding:
    return Finding(State.FAIL, detail, mend)


def run(checks: Sequence[Check], seconds: float) -> Iterator[tuple[Check, Finding]]:
    """Each check with what it found, in order. All begin at once, and one that has not ended in time fails."""
    begun = [(check, _begun(check)) for check in checks]
    until = time.monotonic() + seconds
    for check, found in begun:
        try:
            yield check, found.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            yield check, fail(f"no answer within {seconds:g} seconds", check.mend)


def _begun(check: Check) -> Future[Finding]:
    found: Future[Finding] = Future()

    def look() -> None:
        try:
            found.set_result(check.look())
        except GoldsmithError as error:
            found.set_result(fail(error.detail, error.hint or check.mend))
        except Exception as error:
            found.set_result(fail(f"{type(error).__name__}: {error}"[:300], check.mend))

    # A daemon, so that what hangs does not keep the command from ending.
    threading.Thread(target=look, name=f"doctor-{check.name}", daemon=True).start()
    return found
