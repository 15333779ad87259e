"""Finds builds whose worker was lost, and messages that were: nothing that was taken in waits for ever."""

from __future__ import annotations

import logging

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
        again = outbox.send_again(session, LOST_MESSAGE_SECONDS) + outbox.restore(session)
        if again:
            log.info("%d messages are sent again: nobody has taken them", again)


def forget_old(services: Services) -> None:
    with services.database.write() as session:
        errands.forget_done(session, _KEPT_ERRAND_SECONDS)
        webhooks.forget_old(session, _KEPT_ERRAND_SECONDS)
