"""Keeps a claim alive while a stage works, and stops the stage when the claim is lost or somebody cancels."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from builder.errors import Broken, GoldsmithError, Unavailable
from builder.pipeline.journal import Journal
from builder.store import builds
from builder.store.builds import Claim, LeaseLost
from builder.store.database import Database

log = logging.getLogger("goldsmith")

_TICK_SECONDS = 0.25
_LOOK_SECONDS = 1.0


class Watch:
    """A thread beside the stage: writes the log out, renews the lease, looks for a cancellation every second."""

    def __init__(self, database: Database, claim: Claim, journal: Journal, lease_seconds: float) -> None:
        self._database = database
        self._claim = claim
        self._journal = journal
        self._lease_seconds = lease_seconds
        self._reason: GoldsmithError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"watch-{claim.build_id}")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def should_stop(self) -> bool:
        return self._reason is not None

    def check(self) -> None:
        """Raises LeaseLost or Cancelled when the stage must end."""
        if self._reason is not None:
            raise self._reason

    def _run(self) -> None:
        renewed = time.monotonic()
        looked = renewed
        while not self._stopped.wait(_TICK_SECONDS):
            try:
                self._journal.flush()
                if time.monotonic() - looked >= min(_LOOK_SECONDS, self._lease_seconds / 4):
                    looked = time.monotonic()
                    with self._database.write() as session:
                        builds.renew(session, self._claim, self._lease_seconds)
                    renewed = time.monotonic()
            except Unavailable as error:
                # The database may come back in time; only when the lease has run out is the claim worth nothing.
                if time.monotonic() - renewed > self._lease_seconds:
                    self._reason = LeaseLost(f"the lease ran out while the database was away: {error.detail}")
                    return
            except GoldsmithError as error:
                self._reason = error
                return
            except Exception as error:
                # Without a watch the lease runs out unseen and nobody can cancel: the stage must not go on alone.
                log.exception("build %s: its watch broke", self._claim.build_id)
                self._reason = Broken(f"the watch over the build broke: {type(error).__name__}")
                return
