"""The migrations make exactly the schema that the models describe, and several processes may run them at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, make_url, text

from builder.errors import SettingsInvalid
from builder.store import builds
from builder.store import database as module
from builder.store.database import Database, DatabaseUnavailable
from builder.store.keys import create_key, owner_of
from builder.store.schema import Base
from builder.store.states import BUILD, RESOLVE, Purpose

pytest_plugins = ["tests.unit.databases"]
TABLES = set(Base.metadata.tables)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def config(connection: Connection) -> Config:
    found = Config()
    found.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    found.attributes["connection"] = connection
    return found


def test_the_migrated_schema_is_the_models(url: str) -> None:
    with connected(url) as connection:
        assert set(inspect(connection).get_table_names()) == TABLES | {"alembic_version"}
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_down_to_nothing_and_up_again(url: str) -> None:
    with connected(url) as connection:
        command.downgrade(config(connection), "base")
    with connected(url) as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
        command.upgrade(config(connection), "head")
    with connected(url) as connection:
        assert set(inspect(connection).get_table_names()) == TABLES | {"alembic_version"}


def test_builds_from_before_there_were_purposes_are_releases_without_a_lock(empty_url: str) -> None:
    database = Database(empty_url)
    database.migrate("0001")
    columns = (
        "id, state, recipe_name, recipe_digest, recipe, origin, requester, attempt, token, cancel_requested, "
        "created_at, updated_at, evidence"
    )
    with connected(empty_url) as connection:
        values = f"'{'0' * 26}', 'queued', 'web', 'd', '{{}}', 'request', 'ci', 1, 0, false, 1, 1, '{{}}'"
        connection.execute(text(f"INSERT INTO builds ({columns}) VALUES ({values})"))
    database.migrate()
    with database.write() as session:
        build = builds.get(session, "0" * 26)
        assert (build.purpose, build.lock, build.options, build.subject) == (Purpose.RELEASE, None, {}, None)
        assert builds.claim(session, build.id, RESOLVE, "w", 60) is None
        assert builds.claim(session, build.id, BUILD, "w", 60)
    database.close()


def test_migrating_twice_changes_nothing_and_keeps_what_is_there(url: str) -> None:
    database = Database(url)
    with database.write() as session:
        key = create_key(session, "ci")
    database.migrate()
    with database.read() as session:
        assert owner_of(session, key) == "ci"
    database.close()


def test_there_is_one_newest_migration() -> None:
    script = Config()
    script.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    assert len(ScriptDirectory.from_config(script).get_heads()) == 1


def _migrate(url: str, start: object, answers: multiprocessing.Queue[str]) -> None:
    start.wait()  # type: ignore[attr-defined]
    try:
        database = Database(url)
        database.migrate()
        with database.write() as session:
            create_key(session, "x")
        answers.put("")
    except BaseException as error:
        answers.put(repr(error))


def test_many_processes_may_migrate_a_new_database_at_once(empty_url: str) -> None:
    context = multiprocessing.get_context("forkserver")
    start, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_migrate, args=(empty_url, start, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert found == [""] * 4


class TestConnection:
    def test_an_address_that_is_none_is_a_fault_of_the_settings_and_is_not_shown(self) -> None:
        with pytest.raises(SettingsInvalid) as caught:
            Database("hunter2")
        assert "GOLDSMITH_DATABASE_URL" in caught.value.detail
        assert "hunter2" not in str(caught.value)

    def test_a_database_that_is_away_is_unavailable(self, tmp_path: Path) -> None:
        database = Database(f"postgresql://goldsmith:hunter2@/x?host={tmp_path}")
        with pytest.raises(DatabaseUnavailable) as caught, database.read():
            pass
        assert caught.value.retryable
        assert "hunter2" not in str(caught.value)

    def test_a_directory_that_is_missing_is_made(self, tmp_path: Path) -> None:
        Database(f"sqlite:///{tmp_path / 'a/b/c.db'}").migrate()
        assert (tmp_path / "a/b/c.db").exists()
