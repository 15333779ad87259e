"""The role that serves the API reads the ledger, does all else, and PostgreSQL refuses it every change of a record."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from builder.store import builds
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.grants import api_grants
from builder.store.schema import Base
from tests.unit.databases import Cluster

pytest_plugins = ["tests.unit.databases"]

LEDGER = ["records", "ledger_leaves", "ledger_tiles", "ledger_head", "ledger_checkpoints", "ledger_keys", "releases"]


@pytest.fixture(scope="module")
def url(migrated_cluster: Cluster) -> str:
    """A database as the API's role reaches it. Its name is one that has to be quoted."""
    name, role = f"grants{secrets.token_hex(4)}", f'api"{secrets.token_hex(4)}'
    owner = migrated_cluster.create(name, "migrated")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role.replace(chr(34), chr(34) * 2)}" LOGIN')  # type: ignore[call-overload]
        connection.execute(api_grants(role))  # type: ignore[call-overload]
        connection.execute("INSERT INTO records (build_id, image_digest, digest, body, recorded_at) "
                           "SELECT '', '', '', '', 0 WHERE false")  # fmt: skip
    return owner.replace("goldsmith@", role.replace('"', "%22") + "@", 1)


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url) as found:
        yield found


@pytest.mark.parametrize("table", LEDGER)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET {}", "INSERT INTO {} DEFAULT VALUES",
                                       "TRUNCATE {}", "DROP TABLE {}", "ALTER TABLE {} ADD COLUMN x int"])  # fmt: skip
def test_of_the_ledger_it_changes_nothing(connection: psycopg.Connection, table: str, statement: str) -> None:
    column = next(iter(Base.metadata.tables[table].columns)).name
    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.format(table, f'"{column}" = "{column}"'))  # type: ignore[call-overload]


@pytest.mark.parametrize("table", LEDGER)
def test_it_reads_it(connection: psycopg.Connection, table: str) -> None:
    connection.execute(f"SELECT * FROM {table} LIMIT 1")  # type: ignore[call-overload]


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET action = ''"])
def test_what_was_done_stays_written(connection: psycopg.Connection, statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)  # type: ignore[call-overload]


def test_it_takes_builds_in(url: str) -> None:
    database = Database(url)
    with database.write() as session:
        build = builds.submit(session, Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci")).id
    with database.write() as session:
        builds.get(session, build).cancel_requested = True
    database.close()


def test_every_table_is_granted_by_name() -> None:
    text = api_grants("api")
    assert all(f'ON "{table}" TO "api";' in text for table in Base.metadata.tables)
