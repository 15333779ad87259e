"""Ledgers with records in them, for tests of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from builder.ledger import checkpoints, stored
from builder.ledger.checkpoint import Checkpoint
from builder.ledger.record import LedgerRecord, append
from builder.ledger.serving import tile_content
from builder.ledger.signing import LedgerKey, generate_key
from builder.merkle.tiles import parse_path
from builder.store.database import Database
from builder.store.schema import Build, LedgerHead, LedgerLeaf, LedgerTile
from tests.unit.evidence import digest

FORMAT = "goldsmith-test-record/v1"
ORIGIN = "log.example/golden"


def record(number: int) -> LedgerRecord:
    return LedgerRecord(format=FORMAT, build_id=f"{number:026}", image_digest=digest("a"))


def add_build(session: Session, number: int) -> None:
    values = {
        "id": f"{number:026}", "state": "released", "recipe_name": "web", "recipe_digest": digest("1"), "recipe": "{}",
        "origin": "request", "requester": "ci", "created_at": 1.0, "updated_at": 1.0,
    }  # fmt: skip
    session.execute(insert(Build).values(values))


def append_records(database: Database, count: int, start: int = 0, together: int = 100) -> None:
    """Some in one transaction, as nothing but tests does."""
    for first in range(start, start + count, together):
        with database.write() as session:
            for number in range(first, min(first + together, start + count)):
                add_build(session, number)
                append(session, record(number))


Rows = list[tuple[object, ...]]


def tree_rows(database: Database) -> tuple[Rows, Rows, Rows]:
    """Leaves, tiles and head, whole."""
    with database.read() as session:
        return (
            [tuple(row) for row in session.execute(select(*LedgerLeaf.__table__.c).order_by(LedgerLeaf.place))],
            [
                tuple(row)
                for row in session.execute(select(*LedgerTile.__table__.c).order_by(LedgerTile.level, LedgerTile.place))
            ],
            [tuple(row) for row in session.execute(select(*LedgerHead.__table__.c))],
        )


def new_key(directory: Path, name: str = "key", origin: str = ORIGIN) -> LedgerKey:
    generate_key(directory / name)
    return LedgerKey.load(directory / name, origin)


def sign(database: Database, key: LedgerKey) -> bytes:
    """A checkpoint of the tree as it is, kept; its note."""
    with database.write() as session:
        head = stored.head(session)
        note = key.sign(Checkpoint(key.origin, head.size, head.root()))
        checkpoints.keep(session, note, key.verifier)
    return note.encode()


def reader(database: Database) -> Callable[[str], bytes]:
    """What a log of this database serves below its prefix."""

    def read(path: str) -> bytes:
        with database.read() as session:
            if path == "checkpoint":
                return checkpoints.newest(session).encode()
            return tile_content(session, parse_path(path.removeprefix("tile/")))

    return read
