"""One stage of one build, from claim to hand-over: whatever happens, the build ends or goes on, and says why."""

from __future__ import annotations

import logging
import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from builder.errors import Broken, Cancelled, GoldsmithError, ProgramTimedOut, Unavailable, storage_full
from builder.logs import current_build
from builder.pipeline.journal import Journal
from builder.pipeline.patience import persistently
from builder.pipeline.watch import Watch
from builder.planning.lock import Lock
from builder.recipes.model import Recipe
from builder.store import builds
from builder.store.builds import Claim, LeaseLost
from builder.store.database import Database
from builder.store.schema import Build
from builder.store.states import Stage, State
from builder.tracing import TracedLog, current_trace

log = TracedLog(logging.getLogger("goldsmith"), {})


@dataclass(frozen=True)
class Task:
    """What a stage is given: the build as it stood at the claim, and the means to report and to be stopped."""

    build: Build
    recipe: Recipe
    lock: Lock | None
    claim: Claim
    journal: Journal
    watch: Watch


class WorkerLost(Unavailable):
    slug = "worker-lost"
    title = "The worker of the build died, again and again"


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: the state that the build went to, and the title of what the attempt failed with."""

    attempt: int
    state: State
    failure: str | None = None


Work = Callable[[Task], dict[str, Any]]
CleanUp = Callable[[str], None]

# Seconds before the next attempt, three times as long each time, and each varied by half: what failed together must
# not come back together.
_DELAY = 10.0
_LONGEST_DELAY = 60.0
# What is recorded is released, and worth more than a few attempts: with the longest delay these take hours.
RECORDED_ATTEMPTS = 200


def run_stage(
    database: Database,
    stage: Stage,
    build_id: str,
    work: Work,
    clean_up: CleanUp,
    *,
    lease_seconds: float,
    log_limit: int,
    maximum_attempts: int,
) -> Outcome | None:
    """Claim the build, do the work, hand it on. Answers what came of it, or None if it was not ours to touch.

    `work` answers the evidence to keep; `clean_up` removes what the failed stage left outside the database. What a
    retry can help is tried `maximum_attempts` times in all.
    """
    with database.write() as session:
        claim = builds.claim(session, build_id, stage, f"{socket.gethostname()}:{os.getpid()}", lease_seconds)
    if claim is None:
        log.info("build %s is not ready for the %s stage: nothing to do", build_id, stage.queue)
        return None
    with database.read() as session:
        build = builds.get(session, build_id)
    trace, working = current_trace.set(build.trace), current_build.set(build_id)
    try:
        log.info("build %s: the %s stage begins", build_id, stage.queue)
        return _run_claimed(
            database, build, claim, work, clean_up,
            lease_seconds=lease_seconds, log_limit=log_limit, maximum_attempts=maximum_attempts,
        )  # fmt: skip
    finally:
        current_trace.reset(trace)
        current_build.reset(working)


def _run_claimed(
    database: Database,
    build: Build,
    claim: Claim,
    work: Work,
    clean_up: CleanUp,
    *,
    lease_seconds: float,
    log_limit: int,
    maximum_attempts: int,
) -> Outcome | None:
    build_id, stage = build.id, claim.stage
    journal = Journal(database, claim, log_limit)
    try:
        with Watch(database, claim, journal, lease_seconds) as watch:
            lock = Lock.model_validate_json(build.lock) if build.lock else None
            task = Task(build, Recipe.model_validate_json(build.recipe), lock, claim, journal, watch)
            try:
                if build.cancel_requested and not builds.is_recorded(build):
                    raise Cancelled("the build was cancelled on request")
                evidence = work(task)
            except GoldsmithError:
                # Whatever broke first, a stage that was told to stop reports why it was told.
                watch.check()
                raise
        return Outcome(claim.attempt, persistently(lambda: _complete(database, claim, journal, evidence)))
    except LeaseLost as error:
        log.warning("build %s: %s", build_id, error)
        with database.write() as session:
            builds.stage_again(session, build_id)
        return None
    except GoldsmithError as error:
        return _end(database, claim, journal, error, clean_up, maximum_attempts)
    except Exception as error:
        full = storage_full(error)
        if full is None:
            log.exception("build %s: the %s stage broke", build_id, stage.queue)
        broken = Broken(f"the {stage.queue} stage broke: {type(error).__name__}", hint="see the worker's log")
        return _end(database, claim, journal, full or broken, clean_up, maximum_attempts)


def _complete(database: Database, claim: Claim, journal: Journal, evidence: dict[str, Any]) -> State:
    journal.flush()
    with database.write() as session:
        return State(builds.complete(session, claim, **evidence).state)


def _end(
    database: Database,
    claim: Claim,
    journal: Journal,
    error: GoldsmithError,
    clean_up: CleanUp,
    maximum_attempts: int,
) -> Outcome | None:
    """End the build, and only then take back what it left: a worker that lost its claim owns none of that any more.

    Or have it done once more, if what failed may pass.
    """
    try:
        state = persistently(lambda: _settle(database, claim, journal, error, maximum_attempts))
    except LeaseLost:
        return None
    log.warning("build %s is %s: %s", claim.build_id, state, error)
    if state.final:
        try:
            clean_up(claim.build_id)
        except (GoldsmithError, OSError) as failure:
            log.warning("build %s: left behind for the dispatcher to remove: %s", claim.build_id, failure)
    return Outcome(claim.attempt, state, None if isinstance(error, Cancelled) else error.title)


def _settle(database: Database, claim: Claim, journal: Journal, error: GoldsmithError, maximum_attempts: int) -> State:
    with suppress(GoldsmithError):  # what a build said last is worth less than that it ends
        journal.flush()
    with database.write() as session:
        build = builds.held_build(session, claim)
        if _another_attempt(build, error, maximum_attempts):
            delay = min(_LONGEST_DELAY, _DELAY * 3.0 ** min(build.attempt - 1, 5)) * random.uniform(0.5, 1.5)  # noqa: S311
            builds.retry(session, build, error.problem(), delay=delay)
        else:
            state = State.CANCELLED if isinstance(error, Cancelled) else State.FAILED
            builds.end(session, build, state, error.problem())
        return State(build.state)


def _another_attempt(build: Build, error: GoldsmithError, maximum_attempts: int) -> bool:
    """What is recorded is released: hardly anything is a reason to give it up."""
    if builds.is_recorded(build):
        return build.attempt < RECORDED_ATTEMPTS
    # Who used up its time would use up as much again.
    passing = error.retryable and not isinstance(error, ProgramTimedOut)
    return passing and build.attempt < maximum_attempts
