"""Hands out what the database says is due, and finds builds whose worker or message was lost.

One loop: send what is due, every few seconds look for lost workers and messages. Beside it staging is cleared.
Any number of dispatchers may run: what two of them publish twice is claimed once.
"""

from __future__ import annotations

import logging
import signal
import threading
import time

from celery import Celery
from kombu.exceptions import OperationalError

from builder.errors import GoldsmithError
from builder.logs import configure_logs
from builder.pipeline import checkpointing
from builder.pipeline.services import Services
from builder.pipeline.staging import take_back
from builder.pulse import BEAT_SECONDS, beat
from builder.registry.errors import RegistryUnavailable
from builder.settings import load_settings
from builder.store import builds, errands, idempotency, outbox, webhooks
from builder.store.errands import ALL_RELEASES, ErrandKind
from builder.store.leases import Silence
from builder.store.schema import Errand
from builder.store.states import Priority
from workers.reaper import forget_old, reap, send_lost_again

_POLL_SECONDS = 0.1
REAP_SECONDS = 5.0
_SWEEP_SECONDS = 30.0
_CHECKPOINT_SECONDS = 60.0
_BROKER_SECONDS = 5.0
# Redis hands out the lowest number first.
_RANKS = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6}

log = logging.getLogger("goldsmith.dispatcher")


def publish(services: Services, app: Celery) -> int:
    """Send every message that is due. One that a crash loses in between is sent again after a while.

    Nothing is sent inside a transaction: a broker that hangs must not hold the database's lock.
    """
    with services.database.read() as session:
        due = outbox.due(session, per_team=services.settings.builds_per_team)
    if not due:
        return 0
    with services.database.write() as session:
        outbox.mark_sent(session, due)
    sent = 0
    try:
        for one in due:
            _send(app, one.queue, one.queue, one.build_id, one.priority)
            sent += 1
    finally:
        if sent < len(due):
            with services.database.write() as session:
                outbox.mark_unsent(session, due[sent:])
    return sent


def hand_out_errands(services: Services, app: Celery) -> int:
    """Publish every errand that is due. One that comes twice is taken once."""
    with services.database.read() as session:
        rows = [(one.id, ErrandKind(one.kind)) for one in errands.due(session)]
    for errand_id, kind in rows:
        with services.database.write() as session:
            errands.mark_published(session, errand_id)
        _send(app, str(kind), kind.queue, errand_id, Priority.NORMAL)
    return len(rows)


def _send(app: Celery, task: str, queue: str, subject: str | int, priority: Priority) -> None:
    rank = _RANKS[priority]
    app.send_task(f"goldsmith.{task}", args=[subject], queue=queue, priority=rank, retry=False, ignore_result=True)


def schedule_rescan(services: Services) -> None:
    """Have released images scanned again when it is time: the worker sees whether the database is another one."""
    minutes = services.settings.rescan_minutes
    if not minutes:
        return
    with services.database.write() as session:
        newest = errands.newest(session, ErrandKind.RESCAN)
        if newest is None or _older(newest, minutes * 60):
            errands.add_once(session, ErrandKind.RESCAN, ALL_RELEASES)


def _older(errand: Errand, seconds: float) -> bool:
    """Or made in a time to come: before the clock was set back."""
    return not 0 <= time.time() - errand.created_at <= seconds


def configure_webhook(services: Services) -> None:
    """The webhook of the settings stands beside those that were made through the API."""
    settings = services.settings
    with services.database.write() as session:
        webhooks.configure(session, settings.webhook_url, settings.webhook_events)


def schedule_checkpoint(services: Services) -> None:
    """Have the ledger signed as it is, when the errand that should have done it came too early or was given up."""
    if not checkpointing.due(services):
        return
    with services.database.write() as session:
        newest = errands.newest(session, ErrandKind.CHECKPOINT)
        if newest is None or _older(newest, _CHECKPOINT_SECONDS):
            errands.add_once(session, ErrandKind.CHECKPOINT, errands.LEDGER)


def sweep(services: Services) -> None:
    """Take back what ended builds could not: their worker was lost, or the registry was away. Forget old answers."""
    with services.database.write() as session:
        idempotency.forget_expired(session)
    last = ""
    while True:
        with services.database.read() as session:
            left = builds.ended_but_staged(session, last)
        if not left:
            return
        for build_id in left:
            try:
                take_back(services, build_id)
            except RegistryUnavailable as error:
                log.warning("staging is not cleared yet: %s", error)
                return
            except GoldsmithError as error:
                log.warning("build %s: not cleared yet: %s", build_id, error)
        last = left[-1]


def sweep_beside(services: Services, stopped: threading.Event) -> None:
    """What waits for the registry, beside what must not wait for it."""
    while not stopped.wait(_SWEEP_SECONDS):
        for task in (sweep, forget_old, schedule_rescan, schedule_checkpoint):
            try:
                task(services)
            except GoldsmithError as error:
                log.warning("%s: %s", task.__name__, error)
            except Exception:
                log.exception("%s broke; it is tried again", task.__name__)


def main() -> None:
    configure_logs(load_settings().log_format)
    from workers.app import app

    # A worker waits long for a message; whoever sends one must not.
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "socket_timeout": _BROKER_SECONDS,
        "socket_connect_timeout": _BROKER_SECONDS,
        "max_retries": 0,  # the loop itself tries again
    }
    services = Services(load_settings())
    stopped = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stopped.set())
    sweeper = threading.Thread(target=sweep_beside, args=(services, stopped), name="sweeper", daemon=True)
    sweeper.start()
    silence, look, beaten = Silence(), 0.0, 0.0
    configured = False
    pulse = services.settings.pulse_directory
    log.info("dispatching")
    while not stopped.wait(_POLL_SECONDS):
        if pulse is not None and time.monotonic() >= beaten:
            beaten = time.monotonic() + BEAT_SECONDS
            beat(pulse)
        try:
            if not configured:
                configure_webhook(services)
                configured = True
            if time.monotonic() >= look:
                look = time.monotonic() + REAP_SECONDS
                reap(services, silence)
                send_lost_again(services, app)
            publish(services, app)
            hand_out_errands(services, app)
        except (OperationalError, OSError) as error:
            log.warning("the broker does not answer, builds wait: %s", error)
            stopped.wait(2)
        except GoldsmithError as error:
            log.warning("%s", error)
            stopped.wait(1)
        except Exception:
            log.exception("this round broke; going on with the next")
            stopped.wait(5)


if __name__ == "__main__":
    main()
