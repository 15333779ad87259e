"""One errand, from taking it to its end: done, given up with a reason, or tried again later.

A thread beside it keeps it: whoever dies with an errand has lost it after one lease, however long it takes. Whoever
hangs with it loses it as well, once it has taken longer than any of its kind.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from builder.errors import Broken, GoldsmithError, Unavailable
from builder.store import errands
from builder.store.database import Database
from builder.store.errands import LONGEST_SECONDS, ErrandKind, Taken

_MOST_TRIES = 14

log = logging.getLogger("goldsmith")

Work = Callable[[Taken], object]
GiveUp = Callable[[Taken, GoldsmithError], None]


class ErrandLost(Unavailable):
    slug = "errand-lost"
    title = "The worker of the errand died, again and again"


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
    growing delays, `most_tries` times in all, those included that nobody came back from; then, or when no retry can
    help, `give_up` tells whom it concerns.
    """
    with database.write() as session:
        taken = errands.take(session, errand_id, kind, lease_seconds)
    if taken is None:
        return False
    if taken.tries > most_tries:
        lost = ErrandLost(f"{most_tries} tries, and none came to an end", hint="see the workers' logs")
        _failed(database, kind, taken, lost, give_up, most_tries)
        return True
    try:
        with _kept(database, taken, lease_seconds, LONGEST_SECONDS[kind]):
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


@contextmanager
def _kept(database: Database, taken: Taken, lease_seconds: float, longest_seconds: float) -> Iterator[None]:
    stopped = threading.Event()
    until = time.monotonic() + longest_seconds

    def renew() -> None:
        while not stopped.wait(lease_seconds / 4):
            if time.monotonic() > until:
                log.error("errand %d hangs: it is kept no longer than %g seconds", taken.id, longest_seconds)
                return
            try:
                with database.write() as session:
                    if not errands.renew(session, taken, lease_seconds):
                        # Both do it, and one of them ends it: what errands do may be done twice.
                        log.warning("errand %d has gone to another worker meanwhile", taken.id)
                        return
            except GoldsmithError as error:
                log.warning("errand %d: its lease is not renewed: %s", taken.id, error)
            except Exception:
                log.exception("errand %d: its lease is not renewed; it is tried again", taken.id)

    thread = threading.Thread(target=renew, name=f"errand-{taken.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


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
