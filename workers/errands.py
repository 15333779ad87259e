"""The errands queue: what belongs to no build and needs neither engine nor signing identity. Rescans and notices.

A worker of its own takes it, with two processes: a round of scans takes one of them for minutes, notices go on in the
other. In a small installation a scan worker takes it too.
"""

from __future__ import annotations

from builder.pipeline.errands import run_errand
from builder.pipeline.notifying import deliver, give_up
from builder.pipeline.rescan import rescan_all
from builder.store.errands import ErrandKind
from workers.app import app
from workers.running import services

_RESCAN_TRIES = 3  # the next round comes within the hour


@app.task(name="goldsmith.rescan")
def rescan(errand_id: int) -> None:
    adapters = services()
    run_errand(
        adapters.database,
        ErrandKind.RESCAN,
        errand_id,
        lambda _: rescan_all(adapters),
        lease_seconds=adapters.settings.lease_seconds,
        most_tries=_RESCAN_TRIES,
    )


@app.task(name="goldsmith.notify")
def notify(errand_id: int) -> None:
    adapters = services()
    run_errand(
        adapters.database,
        ErrandKind.NOTIFY,
        errand_id,
        lambda taken: deliver(adapters, taken),
        lease_seconds=adapters.settings.lease_seconds,
        give_up=lambda taken, error: give_up(adapters, taken, error),
    )
