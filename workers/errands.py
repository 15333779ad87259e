"""The errands queue: what belongs to no build and needs neither engine nor signing identity. Rescans and notices.

A worker of its own takes it, with two processes: a round of scans takes one of them for minutes, notices go on in the
other. In a small installation a scan worker takes it too.
"""

from __future__ import annotations

import logging

from celery.signals import worker_init

from builder.errors import SettingsInvalid
from builder.pipeline.errands import run_errand
from builder.pipeline.notifying import check_secret, deliver, give_up
from builder.pipeline.rescan import rescan_all
from builder.settings import load_settings
from builder.store.errands import LONGEST_SECONDS, ErrandKind
from workers.app import app
from workers.running import services

_RESCAN_TRIES = 3  # the next round comes within the hour

log = logging.getLogger("goldsmith")


@worker_init.connect
def tell_of_secret(**_: object) -> None:
    """Before the first notice is lost by it. The other webhooks are told all the same, so the worker goes on."""
    file = load_settings().webhook_secret_file
    if file is None:
        return
    try:
        check_secret(file)
    except SettingsInvalid as error:
        log.error("no notice can be sent to the webhook of the settings: %s", error)


# One that hangs must not keep its process: its lease and the process end together.
@app.task(name="goldsmith.rescan", time_limit=LONGEST_SECONDS[ErrandKind.RESCAN])
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


@app.task(name="goldsmith.notify", time_limit=LONGEST_SECONDS[ErrandKind.NOTIFY])
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
