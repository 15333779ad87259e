"""Finds builds whose worker was lost, and messages that were: nothing that was taken in waits for ever."""

from __future__ import annotations

import logging
from collections import Counter

from celery import Celery
from kombu.exceptions import OperationalError

from builder.pipeline.services import Services
from builder.pipeline.stage import RECORDED_ATTEMPTS, WorkerLost
from builder.store import builds, errands, journal, outbox, webhooks
from builder.store.leases import Silence
from builder.store.states import State

LOST_MESSAGE_SECONDS = 60.0
_KEPT_ERRAND_SECONDS = 30 * 24 * 3600.0

log = logging.getLogger("goldsmith.dispatcher")


def reap(services: Services, silence: Silence) -> None:
    """Begin anew what has lost its worker, a few times; then give it up with a reason. Send lost messages again."""
    with services.database.write() as session:
        for build in silence.look(session):
            most = RECORDED_ATTEMPTS if builds.is_recorded(build) else services.settings.maximum_attempts
            lost = WorkerLost(
                f"{build.attempt} attempt{'s' if build.attempt > 1 else ''}, and the last worker was lost "
                f"in the {build.state} stage",
                hint="see the workers' logs; a build that needs too much memory ends like this",
            )
            journal.abandon_steps(session, build.id)
            if build.attempt < most:
                log.warning("build %s lost its worker in %s: attempt %d", build.id, build.state, build.attempt + 1)
                builds.retry(session, build, lost.problem())
            else:
                builds.end(session, build, State.FAILED, lost.problem())
    with services.database.write() as session:
        outbox.restore(session)


def send_lost_again(services: Services, app: Celery) -> None:
    """Send messages again that nobody has taken, where fewer wait at the broker than were sent.

    Where as many wait, nobody takes them, or not yet: more of them would only fill the broker.
    """
    with services.database.read() as session:
        queues = outbox.untaken(session, LOST_MESSAGE_SECONDS) | errands.untaken(session, LOST_MESSAGE_SECONDS)
        sent = outbox.sent(session) + errands.sent(session) if queues else Counter[str]()
    short = [queue for queue in queues if _waiting(app, queue) < sent[queue]]
    if not short:
        return
    with services.database.write() as session:
        again = outbox.send_again(session, LOST_MESSAGE_SECONDS, short)
        again += errands.send_again(session, LOST_MESSAGE_SECONDS, short)
    log.info("%d messages are sent again: nobody has taken them", again)


def _waiting(app: Celery, queue: str) -> int:
    """How many messages the broker has in a queue, whatever their priority."""
    with app.connection_for_write() as connection:
        try:
            found = connection.default_channel.queue_declare(queue=queue).message_count
        except connection.connection_errors as error:
            raise OperationalError(str(error)) from error
    return int(found)


def forget_old(services: Services) -> None:
    with services.database.write() as session:
        errands.forget_done(session, _KEPT_ERRAND_SECONDS)
        webhooks.forget_old(session, _KEPT_ERRAND_SECONDS)
