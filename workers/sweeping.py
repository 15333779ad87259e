"""What a killed worker leaves on its host, containers and temporary files, goes while the host's workers live.

Whatever build begins next clears up too; but none may for a long time.
"""

from __future__ import annotations

import logging
import threading
import time

from celery.signals import worker_process_init

from builder.errors import GoldsmithError
from builder.pipeline.services import Services
from builder.pipeline.staging import clear_spool, remove_leftovers
from builder.settings import load_settings

SWEEP_SECONDS = 30.0

log = logging.getLogger("goldsmith.sweeper")


def sweep(services: Services) -> None:
    """Remove what builds that have ended left on this host."""
    for task in (clear_spool, remove_leftovers):
        try:
            task(services)
        except (GoldsmithError, OSError) as error:
            log.warning("leftovers are not removed yet: %s", error)


def _sweep_for_ever() -> None:
    services = Services(load_settings())
    while True:
        time.sleep(SWEEP_SECONDS)
        try:
            sweep(services)
        except Exception:
            log.exception("a sweep broke; the next is tried")


@worker_process_init.connect
def begin(**_: object) -> None:
    """In the process that works, after the fork: a thread would not come with it."""
    threading.Thread(target=_sweep_for_ever, name="sweeper", daemon=True).start()
