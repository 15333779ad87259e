"""What a killed worker leaves on its host, containers and temporary files, goes while the host's workers live.

Whatever build begins next clears up too; but none may for a long time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from celery.signals import worker_process_init

from builder.errors import GoldsmithError
from builder.pipeline.services import Services
from builder.settings import load_settings

SWEEP_SECONDS = 30.0

Sweep = Callable[[Services], None]

log = logging.getLogger("goldsmith.sweeper")


def sweep_host(*sweeps: Sweep) -> None:
    """Have the workers of this application do so every half minute."""

    # In the process that works, after the fork: a thread would not come with it.
    @worker_process_init.connect(weak=False)
    def begin(**_: object) -> None:
        threading.Thread(target=_sweep_for_ever, args=(sweeps,), name="sweeper", daemon=True).start()


def sweep_once(services: Services, sweeps: tuple[Sweep, ...]) -> None:
    """Each of them, whatever becomes of the others."""
    for one in sweeps:
        try:
            one(services)
        except (GoldsmithError, OSError) as error:
            log.warning("leftovers are not removed yet: %s", error)
        except Exception:
            log.exception("a sweep broke; the next is tried")


def _sweep_for_ever(sweeps: tuple[Sweep, ...]) -> None:
    services = Services(load_settings())
    while True:
        time.sleep(SWEEP_SECONDS)
        sweep_once(services, sweeps)
