"""The migrations make exactly the schema that the models describe, and several processes may run them at once."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from builder.api.views import build_view
from builder.errors import SettingsInvalid
from builder.ledger import stored
from builder.pipeline.evidence import BuildEvidence
from builder.planning.agreement import requested
from builder.recipes.reading import canonical_json, read_recipe
from builder.store import audit, builds, errands, idempotency, journal, outbox, packages, webhooks
from builder.store import database as module
from builder.store.callers import AuditEntry
from builder.store.database import Database, DatabaseUnavailable
from builder.store.keys import create_key, every, find_key
from builder.store.schema import Base, Build
from builder.store.scopes import Scope
from builder.store.states import BUILD, RESOLVE, Purpose
from tests.unit.evidence import build_evidence, digest, lock, whole_evidence
from tests.unit.ledgers import append_records, tree_rows
from tests.unit.stored import claim, submission, submit

pytest_plugins = ["tests.unit.databases"]
# Each of these brings tables of its own, whichever tests run.
MODELS = (audit, idempotency, packages, webhooks)
TABLES = set(Base.metadata.tables)
# Those that came after the ledger's tree.
LATER = {"audit", "idempotent_requests", "webhooks", "webhook_deliveries"}


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


@pytest.mark.parametrize("revision", ["0014", "0013", "0012", "0011", "0010", "0009", "base"])
def test_down_and_up_again_with_data_over_the_services_own_connection(database: Database, revision: str) -> None:
    """Which holds what refers to other rows to it, unlike a connection of Alembic's own to SQLite."""
    append_records(database, 3)
    build_id = submit(database)
    held = claim(database, build_id)
    with database.write() as session:
        journal.begin_step(session, build_id, held.attempt, "run")
    with database.write() as session:
        command.downgrade(config(session.connection()), revision)
    database.migrate()
    with database.read() as session:
        found = session.get(Build, build_id)
        assert (found is None) == (revision == "base")
        assert [step.name for step in journal.steps_of(session, build_id)] == ["run"] * (revision != "base")


def test_callers_and_builds_outlive_their_teams(database: Database) -> None:
    """Without teams each caller is one again, and nobody's key or build is lost."""
    with database.write() as session:
        key = create_key(session, "ann", team="shop")
        made = builds.submit(session, replace(submission(), team="shop")).id
    with database.write() as session:
        command.downgrade(config(session.connection()), "0014")
    database.migrate()
    with database.write() as session:
        found = find_key(session, key)
        assert found is not None
        assert (found.name, found.team, found.scopes) == ("ann", None, ["admin"])
        assert builds.get(session, made).team is None
        assert [one.build_id for one in outbox.due(session, per_team=1)] == [made]


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


RECIPE = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: web}
spec:
  base: {debian: {suite: trixie, components: [main, contrib]}}
  packages: [nginx-light]
  publish: {repository: golden/web}
"""


def old_evidence(image: str) -> dict[str, Any]:
    """Of a release, from when builds kept no materials, and locks named their recipe instead of what it asked."""
    evidence = whole_evidence(image)
    build = {name: evidence["build"][name] for name in ("lock", "image", "tests", "engine", "hermetic")}
    build["lock"] = {**build["lock"], "recipe_digest": digest("1")}
    del build["lock"]["requested"]
    for package in (*build["lock"]["packages"], *build["lock"]["base"]["packages"]):
        del package["path"]
    return {**evidence, "build": build}


def test_builds_from_before_there_were_materials_are_still_shown_with_their_locks(empty_url: str) -> None:
    database = Database(empty_url)
    database.migrate("0001")
    recipe = read_recipe(RECIPE)
    old = old_evidence(digest("a"))
    kept_as_they_are: dict[str, dict[str, Any]] = {"2" * 26: {}, "3" * 26: {"scan": old["scan"]}}
    with connected(empty_url) as connection:
        for build_id, evidence in {"1" * 26: old, **kept_as_they_are}.items():
            connection.execute(
                text(
                    "INSERT INTO builds (id, state, recipe_name, recipe_digest, recipe, origin, requester, attempt, "
                    "token, cancel_requested, created_at, updated_at, evidence) VALUES "
                    "(:id, 'released', 'web', 'd', :recipe, 'request', 'ci', 1, 0, false, 1, 1, :evidence)"
                ),
                {"id": build_id, "recipe": canonical_json(recipe).decode(), "evidence": json.dumps(evidence)},
            )
    database.migrate()
    with database.read() as session:
        build = builds.get(session, "1" * 26)
        assert {name: builds.get(session, name).evidence for name in kept_as_they_are} == kept_as_they_are
    database.close()
    view = build_view(build, [], "registry.example")
    assert (view.locked, view.result.digest, view.result.packages) == (False, digest("a"), 2)
    assert view.result.reference == f"registry.example/golden/web@{digest('a')}"
    built = BuildEvidence.model_validate(build.evidence["build"])
    assert built.lock.requested == requested(recipe)
    assert built.lock.all_packages == lock().all_packages
    assert (built.lock.epoch, built.lock.archives, built.lock.files) == (lock().epoch, lock().archives, lock().files)
    assert (built.lock_given, built.image) == (False, build_evidence(digest("a")).image)
    assert {name: build.evidence[name] for name in ("scan", "release")} == {
        name: old[name] for name in ("scan", "release")
    }


@pytest.mark.parametrize("count", [0, 1, 256, 700])
def test_records_from_before_the_tree_stand_in_it_as_if_they_had_been_appended(empty_url: str, count: int) -> None:
    database = Database(empty_url)
    database.migrate()
    append_records(database, count)
    appended = tree_rows(database)
    with connected(empty_url) as connection:
        command.downgrade(config(connection), "0004")
        assert set(inspect(connection).get_table_names()) == {
            name for name in TABLES if not name.startswith("ledger_") and name not in LATER
        } | {"alembic_version"}
    database.migrate()
    assert tree_rows(database) == appended
    append_records(database, 2, start=count)
    with database.read() as session:
        assert stored.head(session).size == count + 2
    database.close()


def test_keys_from_before_there_were_scopes_may_do_what_they_could(empty_url: str) -> None:
    database = Database(empty_url)
    database.migrate("0005")
    digests = {"0" * 16: hashlib.sha256(b"gs_old").hexdigest(), "1" * 16: "f" * 64}
    with connected(empty_url) as connection:
        for key_id, found, revoked in zip(digests, digests.values(), (None, 2.0), strict=True):
            connection.execute(
                text("INSERT INTO api_keys (id, name, key_hash, created_at, revoked_at) VALUES (:i, 'ci', :h, 1, :r)"),
                {"i": key_id, "h": found, "r": revoked},
            )
    database.migrate()
    with database.read() as session:
        key = find_key(session, "gs_old")
        assert key is not None
        assert (key.name, key.scopes, key.expires_at, key.last_used_at) == ("ci", ["admin"], None, None)
        assert [one.revoked_at for one in every(session, revoked=True)] == [None, 2.0]
    with pytest.raises(IntegrityError), connected(empty_url) as connection:
        connection.execute(text("INSERT INTO api_keys (id, name, key_hash, created_at) VALUES ('2', 'x', 'x', 1)"))
    database.close()


def test_a_key_that_was_limited_does_not_outlive_its_limits(empty_url: str) -> None:
    database = Database(empty_url)
    database.migrate()
    with database.write() as session:
        create_key(session, "all")
        create_key(session, "ends", expires_at=time.time() + 1000)
        create_key(session, "reads", [Scope.BUILDS_READ])
        audit.append(session, [AuditEntry(at=1.0, action="GET /x", subject="", status=403)])
    with connected(empty_url) as connection:
        command.downgrade(config(connection), "0005")
    with connected(empty_url) as connection:
        found = connection.execute(text("SELECT name FROM api_keys WHERE revoked_at IS NULL")).scalars().all()
        assert found == ["all"]
        assert "audit" not in inspect(connection).get_table_names()
    database.migrate()
    with database.read() as session:
        assert [(one.name, one.scopes) for one in every(session)] == [("all", ["admin"])]
    database.close()


@pytest.mark.parametrize("change", ["UPDATE audit SET status = 200", "DELETE FROM audit"])
def test_the_database_refuses_to_change_the_audit_log(url: str, database: Database, change: str) -> None:
    with database.write() as session:
        audit.append(session, [AuditEntry(at=1.0, action="GET /x", subject="", status=403)])
    with pytest.raises(DBAPIError, match="append-only"), connected(url) as connection:
        connection.execute(text(change))
    with database.read() as session:
        assert [one.status for one in audit.page(session)] == [403]


def test_migrating_twice_changes_nothing_and_keeps_what_is_there(url: str) -> None:
    database = Database(url)
    with database.write() as session:
        key = create_key(session, "ci")
    database.migrate()
    with database.read() as session:
        found = find_key(session, key)
        assert found is not None
        assert found.name == "ci"
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

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
    def test_one_in_memory_leaves_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        monkeypatch.chdir(tmp_path)
        for database in (Database(url), Database.existing(url)):
            with database.turn("an image"), database.read() as session:
                assert session.scalar(text("SELECT 1")) == 1
            database.close()
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_that_is_missing_is_made(self, tmp_path: Path) -> None:
        Database(f"sqlite:///{tmp_path / 'a/b/c.db'}").migrate()
        assert (tmp_path / "a/b/c.db").exists()


def test_a_notice_on_its_way_is_delivered_by_the_webhook_of_the_settings(empty_url: str) -> None:
    told = '{"type":"findings.risen","data":{}}'
    with connected(empty_url) as connection:
        command.upgrade(config(connection), "0008")
        for subject, done in (("msg_1", None), ("msg_2", 2.0), ("msg_3", None)):
            row = {"subject": subject, "body": told, "done": done}
            connection.execute(
                text(
                    "INSERT INTO errands (kind, subject, body, created_at, due_at, tries, done_at) "
                    "VALUES ('notify', :subject, :body, 1, 1, 0, :done)"
                ),
                row,
            )
    database = Database(empty_url)
    database.migrate()
    with database.read() as session:
        waiting = [errand.subject for errand in errands.due(session)]
        found = [session.get_one(webhooks.Delivery, int(subject)) for subject in waiting]
    assert [(one.webhook_id, one.message_id, one.body) for one in found] == [
        (webhooks.CONFIGURED, "msg_1", told), (webhooks.CONFIGURED, "msg_3", told),
    ]  # fmt: skip
    with connected(empty_url) as connection:
        command.downgrade(config(connection), "0008")
        kept = connection.execute(text("SELECT subject, body FROM errands WHERE done_at IS NULL ORDER BY id")).all()
    assert [tuple(row) for row in kept] == [("msg_1", told), ("msg_3", told)]
