"""Connections and transactions: `read` and `write` are the only ways in."""

from __future__ import annotations

import hashlib
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from builder.errors import SettingsInvalid, Unavailable
from builder.locking import LockTimedOut, exclusive

log = logging.getLogger("goldsmith.store")

_MIGRATIONS = Path(__file__).parent / "migrations"
_PATIENCE_SECONDS = 30
_CONNECTIONS = 15
_MIGRATION_LOCK = 0x676F6C64  # any number that nobody else in the database uses
_TURN_SECONDS = 60.0
_TURN_FILES = 256
_IN_MEMORY = ":memory:"  # SQLite's other word for no file
_DISK_FULL = ("disk is full", "No space left on device")
# A holder of a row that is stopped and not dead, or whose network is gone, must not stop everybody else for ever.
_POSTGRESQL_LIMITS = "-c lock_timeout=30s -c idle_in_transaction_session_timeout=60s"
_POSTGRESQL: dict[str, int | None] = {
    # Nothing is prepared: behind a pooler the next transaction may be another session's. It would not be faster.
    "prepare_threshold": None,
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}


class DatabaseUnavailable(Unavailable):
    slug = "database-unavailable"
    title = "The database does not answer"


class DatabaseFull(DatabaseUnavailable):
    """Nothing can be written until an operator has made room."""

    slug = "database-full"
    title = "The database has no disk space left"
    status = 507


class DatabaseAbsent(SettingsInvalid):
    slug = "database-absent"
    title = "There is no database yet where the settings say"


class _Together:
    """What is written in one transaction, from the first write on."""

    def __init__(self) -> None:
        self.open = ExitStack()
        self.session: Session | None = None


class Database:
    """One engine a process. SQLite runs in WAL mode, and its writers take the write lock at once, not half way through
    a transaction, where SQLite could only give up."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise SettingsInvalid("GOLDSMITH_DATABASE_URL is not a database URL", hint="sqlite:///FILE") from error
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self._sqlite = parsed.get_backend_name() == "sqlite"
        if self._sqlite and parsed.database == _IN_MEMORY:
            parsed = parsed.set(database="")
        self._file = Path(parsed.database) if self._sqlite and parsed.database else None
        if self._sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            # Webhooks' secrets are in it. What SQLite keeps beside it gets its mode.
            with suppress(OSError):  # told when it is opened
                Path(parsed.database).touch(mode=0o660)
        arguments = {"timeout": _PATIENCE_SECONDS} if self._sqlite else _postgresql_arguments(parsed)
        # Connections above a pool's size are closed after use: to make one takes longer than to use it.
        # A database in memory has one for each thread.
        pool = {} if self._sqlite and not parsed.database else {"pool_size": _CONNECTIONS, "max_overflow": 0}
        self._engine = create_engine(parsed, connect_args=arguments, pool_pre_ping=not self._sqlite, **pool)
        if self._sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._together: ContextVar[_Together | None] = ContextVar("together", default=None)
        # SQLite lets who finds it locked sleep, up to a tenth of a second at a time, while it is free again. Threads of
        # one process take turns instead.
        self._turn = threading.Lock()

    @classmethod
    def existing(cls, url: str) -> Database:
        """For who means one that is there: in another directory a SQLite file would be made anew, and be empty.

        Raises DatabaseAbsent.
        """
        file = make_url(url).database if url.startswith("sqlite:") else None
        if file and file != _IN_MEMORY and not Path(file).exists():
            raise DatabaseAbsent(
                f"there is no database {Path(file).absolute()}",
                hint="run this where the service runs, or name its database: GOLDSMITH_DATABASE_URL; "
                "`goldsmith admin migrate` makes a new one",
            )
        return cls(url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one snapshot; nothing written in it is kept, and what was read stays readable afterwards."""
        together = self._together.get()
        if together is not None and together.session is not None:
            yield together.session  # who has just written must see it
            return
        with _translated(), self._engine.connect() as connection:
            # SQLite has nothing else; PostgreSQL would look anew at each statement.
            reading = connection if self._sqlite else connection.execution_options(isolation_level="REPEATABLE READ")
            with Session(reading) as session:
                yield session
                session.expunge_all()
                session.rollback()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back by any exception."""
        together = self._together.get()
        if together is None:
            with self._writing() as session:
                yield session
            return
        if together.session is None:
            together.session = together.open.enter_context(self._writing())
        yield together.session
        together.session.flush()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that the caller's thread writes in here is one transaction, from the first write to the end of the block.

        Whatever takes its time must come before the first write: SQLite has one writer at a time.
        """
        together = _Together()
        token = self._together.set(together)
        try:
            with together.open:
                yield
        finally:
            self._together.reset(token)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._turn_to_write(), _translated(), self._engine.connect() as connection:
            writing = connection.execution_options(goldsmith_write=True)
            with Session(writing, expire_on_commit=False) as session, session.begin():
                yield session

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        if not self._sqlite:
            yield
            return
        if not self._turn.acquire(timeout=_PATIENCE_SECONDS):
            raise DatabaseUnavailable("the database is written to by others all the time", hint="try again later")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def turn(self, subject: str, patience: float = _TURN_SECONDS) -> Iterator[None]:
        """One at a time, of all processes that share the database, for what is about `subject` and happens outside of
        it: a look at what is written here, and an act in the registry that follows from it.

        Its holder's death ends it. Raises LockTimedOut after `patience` seconds, and DatabaseUnavailable.
        """
        number = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big", signed=True)
        if self._sqlite:
            file = self._file  # without one, nobody else has this database
            turns = file.with_name(f"{file.name}.turns") / f"{number % _TURN_FILES:03}" if file else None
            with exclusive(turns, patience) if turns else nullcontext():
                yield
            return
        with ExitStack() as connected:
            until = time.monotonic() + patience
            with _translated():
                holding = connected.enter_context(self._engine.connect())
                # A transaction's, not the session's: behind a pooler a session is many clients', and outlives them.
                while not _locked(holding, number):
                    holding.rollback()  # whoever waits occupies nothing
                    if time.monotonic() > until:
                        raise LockTimedOut(f"it was nobody's turn for {subject} within {patience:g} seconds")
                    time.sleep(random.uniform(0.02, 0.1))  # noqa: S311
            try:
                yield
            finally:
                # A connection that was lost meanwhile has ended the turn already; what was done in it stands, or says
                # itself why not. Nothing is said of it a second time when the connection is given back.
                with suppress(DBAPIError):
                    holding.rollback()

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema up to a revision. Any number of processes may do so at once: they take turns."""
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with _translated(), self._engine.connect() as connection:
            writing = connection.execution_options(goldsmith_write=True)
            if not self._sqlite:
                # Others' migrations, and one's own, take as long as there is data.
                for limit in ("lock_timeout", "idle_in_transaction_session_timeout"):
                    writing.exec_driver_sql(f"SET LOCAL {limit} = 0")
                writing.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config.attributes["connection"] = writing
            command.upgrade(config, revision)
            writing.commit()

    def revisions(self) -> tuple[str | None, list[str]]:
        """The schema's revision, None where there is none, and those that this version knows, the newest first."""
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        with _translated(), self._engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision(), known

    def close(self) -> None:
        self._engine.dispose()


def _postgresql_arguments(url: URL) -> dict[str, Any]:
    """What the URL itself says goes before ours."""
    ours = {name: value for name, value in _POSTGRESQL.items() if name not in url.query}
    return {**ours, "options": " ".join((_POSTGRESQL_LIMITS, *url.normalized_query.get("options", ())))}


def _locked(connection: Connection, number: int) -> bool:
    """Whether the connection's transaction, which may stand still for as long as it likes, has the lock now."""
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(number))))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        log.warning("the database does not answer: %s", error.orig)
        if any(said in str(error.orig) for said in _DISK_FULL):
            raise DatabaseFull("the database's disk is full", hint="an operator must free some space") from error
        raise DatabaseUnavailable("the database does not answer", hint="an operator finds why in the log") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable("the connection to the database was lost") from error
        raise


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin transactions by itself, and too late; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _keep_write_ahead_log(cursor)
    cursor.close()


def _keep_write_ahead_log(cursor: Any) -> None:
    # Who converts a new file while others open it is refused at once: SQLite does not wait for its time limit there.
    until = time.monotonic() + 30
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("goldsmith_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
