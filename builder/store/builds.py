"""Builds: submitted, claimed, advanced, finished. Each function is one step inside the caller's transaction."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from builder.errors import Cancelled, Problem, Rejected
from builder.store import outbox, webhooks
from builder.store.schema import Build, Release
from builder.store.states import (
    FINAL,
    PATHS,
    RELEASE,
    SCAN,
    Priority,
    Purpose,
    Stage,
    State,
    check_transition,
    stage_ready_in,
    stage_running_in,
)
from builder.tracing import current_trace

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile("[0-9a-z]{26}")
# Only what is recorded is tried more often.
_KEPT_RETRIES = 20


class BuildUnknown(Rejected):
    slug = "build-unknown"
    title = "There is no such build"
    status = 404


class LeaseLost(Rejected):
    """Another worker has the build, or it has ended: whoever sees this stops at once and touches nothing more."""

    slug = "lease-lost"
    title = "The build is no longer this worker's"
    status = 409


class AlreadyFinal(Rejected):
    slug = "build-already-final"
    title = "The build has already ended"
    status = 409


class BaseNotReleased(Rejected):
    slug = "base-not-released"
    title = "The image that this one starts from was not released"


@dataclass(frozen=True)
class Claim:
    """The right to do one stage of one build, for as long as `token` is the build's newest."""

    build_id: str
    stage: Stage
    token: int
    attempt: int


@dataclass(frozen=True)
class Submission:
    """What a build is asked to be. `recipe` is its canonical JSON; `origin` is "catalogue", "request", "git", "base"
    or "release" (of a rebuild or comparison); `team` is the requester's; `base_digest` is the digest of the recipe
    whose release it starts from; `lock` is JSON; `subject` is the digest of the image that a rebuild or comparison is
    about; `staged` is the digest of what was uploaded for it to `staging_repository`; `retry_of` is a build that came
    to nothing."""

    recipe_name: str
    recipe_digest: str
    recipe: str
    origin: str
    requester: str
    team: str | None = None
    base_digest: str | None = None
    purpose: Purpose = Purpose.RELEASE
    lock: str | None = None
    subject: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    staged: str | None = None
    staging_repository: str | None = None
    identity: dict[str, Any] | None = None
    priority: Priority = Priority.NORMAL
    retry_of: str | None = None


class _Ulids:
    """Numbers of 128 bits that grow with time, and within one process with each."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._last = 0

    def next(self) -> int:
        with self._turn:
            self._last = max((int(time.time() * 1000) << 80) | secrets.randbits(80), self._last + 1)
            return self._last


_ulids = _Ulids()


def new_build_id() -> str:
    """A ULID in lower case: 26 characters that sort by time of creation."""
    number = _ulids.next()
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def submit(session: Session, submission: Submission, *, waits_for: str | None = None) -> Build:
    """A new build, and the message that starts it unless it waits for another. It belongs to the request's trace."""
    now = time.time()
    build = Build(
        id=new_build_id(),
        purpose=submission.purpose,
        state=State.WAITING if waits_for else State.QUEUED,
        recipe_name=submission.recipe_name,
        recipe_digest=submission.recipe_digest,
        recipe=submission.recipe,
        origin=submission.origin,
        requester=submission.requester,
        team=submission.team,
        identity=submission.identity,
        base_digest=submission.base_digest,
        lock=submission.lock,
        subject=submission.subject,
        options=submission.options,
        image_digest=submission.staged,
        staging_repository=submission.staging_repository,
        priority=submission.priority,
        retry_of=submission.retry_of,
        trace=current_trace.get(),
        waits_for=waits_for,
        attempt=1,
        token=0,
        cancel_requested=False,
        created_at=now,
        updated_at=now,
        evidence={},
        retries=[],
    )
    session.add(build)
    session.flush()
    if not waits_for:
        outbox.enqueue(session, build, PATHS[submission.purpose][0])
    return build


def get(session: Session, build_id: str, *, lock: bool = False) -> Build:
    """Raises BuildUnknown. `lock` holds the row until the transaction ends, so that what is read of it stays true."""
    # Whatever cannot be an id is not asked for: PostgreSQL, for one, knows no text with a NUL.
    build = session.get(Build, build_id, with_for_update=lock or None) if _ID.fullmatch(build_id) else None
    if build is None:
        raise BuildUnknown(f"there is no build {build_id[:40]!r}", hint="`goldsmith builds` lists them")
    return build


def running_build_of(session: Session, recipe_digest: str, lock: str | None) -> Build | None:
    """A build that is to release the same recipe with the same lock, and has not ended yet: whoever needs its image can
    wait for it.

    It is locked, so that it cannot end, and tell whoever waits, before the caller's own build is there to be told.
    """
    return session.scalars(
        select(Build)
        .where(
            Build.recipe_digest == recipe_digest,
            Build.lock == lock,
            Build.purpose == Purpose.RELEASE,
            Build.state.not_in(FINAL),
            Build.cancel_requested.is_(False),
        )
        .order_by(Build.created_at)
        .limit(1)
        .with_for_update()
    ).first()


def newest_release(session: Session, recipe_digest: str, registry: str) -> Release | None:
    """The newest release of exactly this recipe in this registry. A name would not do: anybody may use it again."""
    return session.scalars(
        select(Release)
        .where(Release.recipe_digest == recipe_digest, Release.registry_host == registry)
        .order_by(Release.released_at.desc())
        .limit(1)
    ).first()


def claim(session: Session, build_id: str, stage: Stage, owner: str, lease_seconds: float) -> Claim | None:
    """Take a build for one stage. None if it is not ready for it: a message delivered twice claims nothing."""
    taken = session.execute(
        update(Build)
        .where(
            Build.id == build_id,
            Build.state == stage.ready,
            Build.purpose.in_([purpose for purpose, path in PATHS.items() if stage in path]),
        )
        .values(
            state=stage.running,
            token=Build.token + 1,
            lease_owner=owner,
            lease_until=time.time() + lease_seconds,
            lease_seconds=lease_seconds,
            updated_at=time.time(),
        )
        .returning(Build.token, Build.attempt)
    ).first()
    if taken is None:
        return None
    outbox.take(session, build_id, stage.queue)
    return Claim(build_id, stage, taken.token, taken.attempt)


def renew(session: Session, held: Claim, lease_seconds: float) -> None:
    """A heartbeat. Raises LeaseLost, or Cancelled when somebody asked for that."""
    row = session.execute(
        update(Build)
        .where(Build.id == held.build_id, Build.token == held.token, Build.state == held.stage.running)
        .values(lease_until=time.time() + lease_seconds)
        .returning(Build.cancel_requested)
    ).first()
    if row is None:
        raise LeaseLost(f"build {held.build_id} has gone to another worker")
    if row.cancel_requested:
        raise Cancelled("the build was cancelled on request")


def held_build(session: Session, held: Claim) -> Build:
    """The build itself, locked for this transaction and only if the claim still holds. Raises LeaseLost."""
    build = session.scalars(
        select(Build).where(Build.id == held.build_id, Build.token == held.token).with_for_update()
    ).first()
    if build is None or build.state != held.stage.running:
        raise LeaseLost(f"build {held.build_id} has gone to another worker")
    return build


def hold(session: Session, held: Claim) -> None:
    """The same without the build. Raises LeaseLost."""
    mine = select(Build.id).where(
        Build.id == held.build_id, Build.token == held.token, Build.state == held.stage.running
    )
    if session.scalar(mine.with_for_update()) is None:
        raise LeaseLost(f"build {held.build_id} has gone to another worker")


def complete(session: Session, held: Claim, **evidence: Any) -> Build:
    """The stage is done: keep its evidence, go to the next state, tell the next queue and whoever waits."""
    build = held_build(session, held)
    build.evidence = {**build.evidence, **evidence}
    # Found to be released before: there is nothing left to do.
    _move(session, build, RELEASE.done if "unchanged" in evidence else held.stage.done)
    return build


def end(session: Session, build: Build, state: State, problem: Problem) -> None:
    """The build ends without a release, with the reason that its requester will read."""
    build.problem = problem.model_dump(mode="json")
    _move(session, build, state)


def request_cancel(session: Session, build_id: str) -> Build:
    """Ask for an end. A build that no worker holds ends at once; a held one when its worker notices (seconds).

    Raises AlreadyFinal, also for what is recorded: that can be finished, and nothing else.
    """
    build = get(session, build_id, lock=True)
    if State(build.state).final:
        raise AlreadyFinal(f"build {build_id} is already {build.state}")
    if is_recorded(build):
        raise AlreadyFinal(f"what came of build {build_id} is recorded already; it can only be finished")
    build.cancel_requested = True
    build.updated_at = time.time()
    if stage_running_in(State(build.state)) is None:
        end(session, build, State.CANCELLED, Cancelled("the build was cancelled on request").problem())
    return build


def stage_again(session: Session, build_id: str) -> None:
    """Have the staging area of an ended build looked through once more: a worker that had lost it without knowing may
    have sent something since."""
    build = session.get_one(Build, build_id, with_for_update=True)
    if build.purpose == Purpose.RELEASE and State(build.state).final and build.image_digest is not None:
        build.staging_repository = json.loads(build.recipe)["spec"]["publish"]["repository"]


def is_recorded(build: Build) -> bool:
    """Whether the ledger has the build's release or comparison: from then on the build can only be finished."""
    return "release" in build.evidence or "comparison" in build.evidence


def retry(session: Session, build: Build, reason: Problem, *, delay: float = 0) -> None:
    """Begin a stage anew, after `delay` seconds, when its worker was lost or a dependency failed for a while."""
    stage = stage_running_in(State(build.state))
    assert stage is not None
    why = {"attempt": build.attempt, "at": time.time(), "state": build.state, "type": reason.type,
           "detail": reason.detail}  # fmt: skip
    build.retries = [*build.retries[1 - _KEPT_RETRIES :], why]
    build.attempt += 1
    _move(session, build, stage.ready, delay=delay)


def ended(session: Session, build_ids: Collection[str]) -> set[str]:
    """Those of them that have ended."""
    return set(session.scalars(select(Build.id).where(Build.id.in_(build_ids), Build.state.in_(FINAL))))


def announce_staged(session: Session, build: Build) -> None:
    """Tell the scan queue of an image before its time. A lost message costs nothing but the head start."""
    outbox.hint(session, build, SCAN.queue)


def others_stage(session: Session, build: Build) -> bool:
    """Whether another build that has not ended has the same image in the same repository."""
    if build.image_digest is None or build.staging_repository is None:
        return False
    return is_staged(session, build.staging_repository, build.image_digest, but=build.id)


def is_staged(session: Session, repository: str, digest: str, *, but: str | None = None) -> bool:
    """Whether a build that has not ended needs what has this digest in a repository of the staging area."""
    query = (
        select(func.count())
        .select_from(Build)
        .where(Build.image_digest == digest, Build.staging_repository == repository, Build.state.not_in(FINAL))
    )
    return bool(session.scalar(query.where(Build.id != but) if but is not None else query))


def ended_but_staged(session: Session, after: str = "", limit: int = 50) -> list[str]:
    """Ids, in their order, of ended builds whose staged image could not be removed when they ended."""
    query = select(Build.id).where(Build.staging_repository.is_not(None), Build.state.in_(FINAL), Build.id > after)
    return list(session.scalars(query.order_by(Build.id).limit(limit)))


def _move(session: Session, build: Build, after: State, *, delay: float = 0) -> None:
    """The one place where a state changes, with all that follows from it in the same transaction."""
    check_transition(State(build.state), after)
    now = time.time()
    build.state = after
    build.updated_at = now
    build.lease_owner = None
    build.lease_until = None
    # Whoever held the build before this moment holds nothing now.
    build.token += 1
    if after.final:
        build.finished_at = now
    ready = stage_ready_in(after, Purpose(build.purpose))
    if ready is not None:
        outbox.enqueue(session, build, ready, delay)
    if after.final:
        outbox.forget(session, build.id)
        _tell_waiting(session, build)
        webhooks.announce_end(session, build)


def _tell_waiting(session: Session, base: Build) -> None:
    waiting = select(Build).where(Build.waits_for == base.id, Build.state == State.WAITING).order_by(Build.id)
    # Locked, and looked at again under the lock: one that is being cancelled at this moment stays cancelled.
    for build in session.scalars(waiting.with_for_update().execution_options(populate_existing=True)).all():
        if base.state == RELEASE.done:
            _move(session, build, State.QUEUED)
        else:
            failure = BaseNotReleased(
                f"the base {base.recipe_name!r} was not released: build {base.id} is {base.state}",
                hint=f"see `goldsmith show {base.id}`",
            )
            end(session, build, State.FAILED, failure.problem())
