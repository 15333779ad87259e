"""Whose worker is silent: judged by how long a lease has stood still, not by what any clock says.

A worker moves its lease on while it lives. Whoever looks for lost ones remembers when it last saw that: clocks of other
hosts may be wrong, and the own one may be set.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from builder.store.schema import Build
from builder.store.states import STAGES

# Of a claim that an older version made.
_LEASE_SECONDS = 60.0


class Silence:
    """`clock` never goes back, in seconds. What it has not seen before is as good as heard of just now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, tuple[int, float | None, float]] = {}

    def look(self, session: Session) -> list[Build]:
        """The builds whose worker has been silent for longer than its lease, each locked for this transaction."""
        now, running = self._clock(), [stage.running for stage in STAGES]
        held = select(Build.id, Build.token, Build.lease_until, Build.lease_seconds).where(Build.state.in_(running))
        heard, silent = {}, []
        for build_id, token, until, seconds in session.execute(held):
            before = self._heard.get(build_id)
            since = before[2] if before is not None and before[:2] == (token, until) else now
            heard[build_id] = (token, until, since)
            if now - since > (seconds or _LEASE_SECONDS):
                silent.append(build_id)
        self._heard = heard
        if not silent:
            return []
        lost = select(Build).where(Build.id.in_(silent), Build.state.in_(running)).with_for_update(skip_locked=True)
        # It may have been heard of while we waited for the lock.
        return [one for one in session.scalars(lost) if (one.token, one.lease_until) == heard[one.id][:2]]
