"""Builds in a database, moved along as workers move them, for tests of the store."""

from __future__ import annotations

from sqlalchemy.orm import Session

from builder.errors import Cancelled
from builder.store import builds, outbox
from builder.store.builds import Claim, Submission
from builder.store.database import Database
from builder.store.leases import Silence
from builder.store.schema import Build
from builder.store.states import BUILD, RELEASE, SCAN, Stage

PROBLEM = Cancelled("x").problem()


def submission(name: str = "web", digest: str = "1") -> Submission:
    return Submission(name, "sha256:" + digest * 64, "{}", "request", "ci")


def submit(database: Database, name: str = "web", waits_for: str | None = None, digest: str = "1") -> str:
    with database.write() as session:
        return builds.submit(session, submission(name, digest), waits_for=waits_for).id


def claim(database: Database, build_id: str, stage: Stage = BUILD, lease: float = 60) -> Claim:
    with database.write() as session:
        found = builds.claim(session, build_id, stage, "worker", lease)
    assert found is not None
    return found


def complete(database: Database, held: Claim, **evidence: object) -> None:
    with database.write() as session:
        builds.complete(session, held, **evidence)


def release(database: Database, build_id: str) -> None:
    for stage in (BUILD, SCAN, RELEASE):
        complete(database, claim(database, build_id, stage))


def state(database: Database, build_id: str) -> str:
    with database.read() as session:
        return builds.get(session, build_id).state


def messages(database: Database) -> list[tuple[str, str]]:
    with database.write() as session:
        return [(one.build_id, one.queue) for one in outbox.due(session)]


def silent(session: Session, *, after: float) -> list[Build]:
    """The builds whose worker has not been heard of, for who looks now and once more after so many seconds."""
    now = [0.0]
    silence = Silence(lambda: now[0])
    assert silence.look(session) == []
    now[0] = after
    return silence.look(session)
