"""One errand, from taking it to its end: done, given up with a reason, or tried again later."""

from __future__ import annotations

import logging
from collections.abc import Callable

from builder.errors import Broken, GoldsmithError
from builder.store import errands
from builder.store.database import Database
from builder.store.errands import ErrandKind, Taken

_MOST_TRIES = 14

log = logging.getLogger("goldsmith")

Work = Callable[[Taken], object]
GiveUp = Callable[[Taken, GoldsmithError], None]


def run_errand(
    database: Database,
    kind: ErrandKind,
    errand_id: int,
    work: Work,
    *,
    lease_seconds: float,
    give_up: GiveUp | None = None,
    most_tries: int = _MOST_TRIES,
) -> bool:
    """Take the errand and do it. Answers whether it was there to be taken.

    `work` may run more than once, when a worker dies or a lease ends. What a retry can help is tried again, with
    growing delays, `most_tries` times in all; then, or when no retry can help, `give_up` tells whom it concerns.
    """
    with database.write() as session:
        taken = errands.take(session, errand_id, kind, lease_seconds)
    if taken is None:
        return False
    try:
        work(taken)
    except GoldsmithError as error:
        _failed(database, kind, taken, error, give_up, most_tries)
    except Exception as error:
        log.exception("errand %d (%s) broke", taken.id, kind)
        broken = Broken(f"the errand broke: {type(error).__name__}", hint="see the worker's log")
        _failed(database, kind, taken, broken, give_up, most_tries)
    else:
        with database.write() as session:
            errands.finish(session, taken)
    return True


def _failed(
    database: Database, kind: ErrandKind, taken: Taken, error: GoldsmithError, give_up: GiveUp | None, most_tries: int
) -> None:
    again = error.retryable and taken.tries < most_tries
    log.warning("errand %d (%s) %s: %s", taken.id, kind, "is tried again later" if again else "is given up", error)
    with database.write() as session:
        held = errands.postpone(session, taken, error.problem()) if again else errands.finish(
            session, taken, error.problem()
        )  # fmt: skip
    if held and not again and give_up is not None:
        give_up(taken, error)
