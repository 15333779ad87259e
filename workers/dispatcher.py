"""Hands out what the database says is due, and finds builds whose worker or message was lost.

One loop: publish the outbox, every few seconds look for expired leases and lost messages, now and then clear staging.
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
from builder.pipeline import checkpointing
from builder.pipeline.services import Services
from builder.pipeline.stage import WorkerLost
from builder.pipeline.staging import take_back
from builder.settings import load_settings
from builder.store import builds, errands, idempotency, journal, webhooks
from builder.store.errands import ALL_RELEASES, ErrandKind
from builder.store.states import Priority, State

_POLL_SECONDS = 0.1
_REAP_SECONDS = 5.0
_LOST_MESSAGE_SECONDS = 60.0
_SWEEP_SECONDS = 30.0
_CHECKPOINT_SECONDS = 60.0
_KEPT_MESSAGE_SECONDS = 3600.0
_KEPT_ERRAND_SECONDS = 30 * 24 * 3600.0
_BROKER_SECONDS = 5.0
# Redis hands out the lowest number first.
_RANKS = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6}

log = logging.getLogger("goldsmith.dispatcher")


def publish(services: Services, app: Celery) -> int:
    """Publish every outbox row that is due. A crash in between publishes it twice, which does no harm.

    Nothing is sent inside a transaction: a broker that hangs must not hold the database's lock.
    """
    with services.database.read() as session:
        rows = [(row.id, row.queue, row.build_id) for row in builds.unpublished(session)]
        priorities = builds.priorities(session, {build_id for _, _, build_id in rows})
    for row_id, queue, build_id in rows:
        _send(app, queue, queue, build_id, priorities[build_id])
        with services.database.write() as session:
            builds.mark_published(session, row_id)
    return len(rows)


def hand_out_errands(services: Services, app: Celery) -> int:
    """Publish every errand that is due. One that comes twice is taken once."""
    with services.database.read() as session:
        rows = [(one.id, ErrandKind(one.kind)) for one in errands.due(session)]
    for errand_id, kind in rows:
        _send(app, str(kind), kind.queue, errand_id, Priority.NORMAL)
        with services.database.write() as session:
            errands.mark_published(session, errand_id)
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
        if newest is None or newest.created_at < time.time() - minutes * 60:
            errands.add_once(session, ErrandKind.RESCAN, ALL_RELEASES)


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
        if newest is None or newest.created_at < time.time() - _CHECKPOINT_SECONDS:
            errands.add_once(session, ErrandKind.CHECKPOINT, errands.LEDGER)


def reap(services: Services) -> None:
    """Begin anew what has lost its worker, a few times; then give it up with a reason. Remind of lost messages."""
    with services.database.write() as session:
        for build in builds.expired(session):
            journal.abandon_steps(session, build.id)
            if build.attempt < services.settings.maximum_attempts or builds.is_recorded(build):
                log.warning("build %s lost its worker in %s: attempt %d", build.id, build.state, build.attempt + 1)
                builds.retry(session, build)
            else:
                error = WorkerLost(
                    f"{build.attempt} workers were lost in the {build.state} stage",
                    hint="see the workers' logs; a build that needs too much memory ends like this",
                )
                builds.end(session, build, State.FAILED, error.problem())
        for build in builds.stalled(session, _LOST_MESSAGE_SECONDS):
            builds.remind(session, build)
        builds.forget_published(session, _KEPT_MESSAGE_SECONDS)
        errands.forget_done(session, _KEPT_ERRAND_SECONDS)
        webhooks.forget_old(session, _KEPT_ERRAND_SECONDS)


def sweep(services: Services) -> None:
    """Take back what ended builds could not: their worker was lost, or the registry was away. Forget old answers."""
    with services.database.read() as session:
        left = builds.ended_but_staged(session)
    with services.database.write() as session:
        idempotency.forget_expired(session)
    for build_id in left:
        try:
            take_back(services, build_id)
        except GoldsmithError as error:
            log.warning("build %s: not cleared yet: %s", build_id, error)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
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
    due = {"reap": 0.0, "sweep": time.monotonic() + _SWEEP_SECONDS}
    configured = False
    log.info("dispatching")
    while not stopped.wait(_POLL_SECONDS):
        try:
            if not configured:
                configure_webhook(services)
                configured = True
            publish(services, app)
            hand_out_errands(services, app)
            if time.monotonic() >= due["reap"]:
                due["reap"] = time.monotonic() + _REAP_SECONDS
                reap(services)
            if time.monotonic() >= due["sweep"]:
                due["sweep"] = time.monotonic() + _SWEEP_SECONDS
                sweep(services)
                schedule_rescan(services)
                schedule_checkpoint(services)
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
