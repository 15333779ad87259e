"""A checkpoint goes to the registry, which holds the database to its word: what does not continue it is not signed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from builder.errors import SettingsInvalid
from builder.image.documents import parse_manifest
from builder.ledger import checkpoints
from builder.ledger.checking import check_database
from builder.ledger.checkpoint import open_checkpoint
from builder.pipeline.checkpointing import ARTIFACT, LedgerForked, due, sign_checkpoint
from builder.pipeline.services import Services
from builder.registry.errors import RegistryUnavailable
from builder.settings import Settings
from builder.store import errands
from builder.store.errands import ErrandKind
from builder.store.schema import Errand
from tests.integration.registry_server import free_port, running_registry
from tests.unit.ledgers import append_records, new_key
from workers.dispatcher import schedule_checkpoint

ORIGIN = "goldsmith.example/ledger"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def services_of(directory: Path, registry: str, repository: str, **more: object) -> Services:
    directory.mkdir(exist_ok=True)
    if not (directory / "key").exists():
        new_key(directory)
    made = Services(
        Settings.model_validate(
            {
                "state_directory": directory, "database_url": f"sqlite:///{directory / 'a.db'}", "registry": registry,
                "ledger_key_file": directory / "key", "ledger_origin": ORIGIN, "ledger_repository": repository, **more,
            }
        )
    )  # fmt: skip
    made.database.migrate()
    return made


@pytest.fixture
def services(tmp_path: Path, registry: str) -> Services:
    return services_of(tmp_path, registry, f"ledger/{tmp_path.name.lower()}")


def published(services: Services, tag: str = "checkpoint") -> tuple[int, bytes]:
    repository = services.ledger_repository
    manifest = parse_manifest(services.registry.manifests.get(repository.tagged(tag)).data)
    assert manifest.artifact_type == ARTIFACT
    content = services.registry.blobs.fetch(repository, manifest.layers[0])
    return open_checkpoint(content, [services.ledger_key.verifier]).checkpoint.size, content


def waiting(services: Services) -> int:
    with services.database.read() as session:
        return len([one for one in errands.due(session) if one.kind == ErrandKind.CHECKPOINT])


def test_it_is_signed_kept_pushed_and_noted_down(services: Services) -> None:
    assert not due(services)
    assert sign_checkpoint(services) == 0
    append_records(services.database, 3)
    assert due(services)
    assert sign_checkpoint(services) == 3
    assert not due(services)
    append_records(services.database, 2, start=3)
    assert sign_checkpoint(services) == 5
    with services.database.read() as session:
        kept = checkpoints.newest(session).encode()
        assert [one.checkpoint.size for one in checkpoints.kept(session, [services.ledger_key.verifier])] == [3, 5]
    assert published(services) == published(services, "size-5") == (5, kept)
    assert published(services, "size-3")[0] == 3
    assert services.ledger_note.read_bytes() == kept


def test_again_and_again_is_once(services: Services) -> None:
    append_records(services.database, 3)
    first = [sign_checkpoint(services) for _ in range(3)]
    assert first == [3, 3, 3]
    assert published(services)[0] == 3


def test_what_was_signed_and_not_pushed_is_pushed_later(services: Services, tmp_path: Path, registry: str) -> None:
    append_records(services.database, 3)
    away = services_of(tmp_path, f"127.0.0.1:{free_port()}", services.settings.ledger_repository)
    with pytest.raises(RegistryUnavailable):
        sign_checkpoint(away)
    assert due(services)
    assert sign_checkpoint(services) == 3
    assert published(services)[0] == 3


REWRITES = {
    "a leaf": "UPDATE ledger_leaves SET hash = zeroblob(32) WHERE place = 1",
    "the head": "UPDATE ledger_head SET frontier = zeroblob(length(frontier))",
}


@pytest.mark.parametrize("what", REWRITES)
def test_who_rewrites_the_database_gets_no_signature(services: Services, what: str) -> None:
    append_records(services.database, 3)
    sign_checkpoint(services)
    before = published(services)
    with services.database._engine.begin() as connection:
        connection.execute(text(REWRITES[what]))
        connection.execute(text("DELETE FROM ledger_checkpoints"))
    if what == "a leaf":
        append_records(services.database, 1, start=3)
    with pytest.raises(LedgerForked, match="does not continue"):
        sign_checkpoint(services)
    assert published(services) == before


@pytest.mark.parametrize("forgotten", ["registry", "note"])
def test_one_copy_is_enough_to_find_a_ledger_that_began_anew(
    services: Services, tmp_path: Path, registry: str, forgotten: str
) -> None:
    append_records(services.database, 3)
    sign_checkpoint(services)
    repository = services.settings.ledger_repository
    (tmp_path / "a.db").rename(tmp_path / "old.db")
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"a.db{suffix}").unlink(missing_ok=True)
    if forgotten == "note":
        services.ledger_note.unlink()
    else:
        repository += "/elsewhere"
    fresh = services_of(tmp_path, registry, repository)
    append_records(fresh.database, 2)
    with pytest.raises(LedgerForked, match="there are 2 entries"):
        sign_checkpoint(fresh)
    append_records(fresh.database, 2, start=10)
    with pytest.raises(LedgerForked):
        sign_checkpoint(fresh)


def test_another_installations_checkpoint_is_not_overwritten(services: Services, tmp_path: Path, registry: str) -> None:
    append_records(services.database, 3)
    sign_checkpoint(services)
    repository = services.settings.ledger_repository
    other = services_of(tmp_path / "other", registry, repository)
    append_records(other.database, 4)
    with pytest.raises(LedgerForked, match="not this ledger's"):
        sign_checkpoint(other)
    renamed = services_of(tmp_path, registry, repository, ledger_origin="goldsmith.example/renamed")
    with pytest.raises(LedgerForked):
        sign_checkpoint(renamed)
    assert published(services)[0] == 3


def test_a_new_key_continues_what_the_old_one_signed(services: Services, tmp_path: Path, registry: str) -> None:
    append_records(services.database, 3)
    sign_checkpoint(services)
    (tmp_path / "key").rename(tmp_path / "old")
    new_key(tmp_path)
    rotated = services_of(tmp_path, registry, services.settings.ledger_repository)
    append_records(services.database, 1, start=3)
    assert sign_checkpoint(rotated) == 4
    assert published(rotated)[0] == 4
    assert rotated.ledger_key.verifier != services.ledger_key.verifier


def test_after_a_backup_was_restored_it_goes_on_under_another_name_alone(
    services: Services, tmp_path: Path, registry: str
) -> None:
    append_records(services.database, 3)
    sign_checkpoint(services)
    backup = tmp_path / "backup.db"
    services.database._engine.raw_connection().execute(f"VACUUM INTO '{backup}'")  # type: ignore[attr-defined]
    append_records(services.database, 2, start=3)
    sign_checkpoint(services)
    repository, at_backup = services.settings.ledger_repository, f"sqlite:///{backup}"
    restored = services_of(tmp_path, registry, repository, database_url=at_backup)
    append_records(restored.database, 4, start=20)
    with pytest.raises(LedgerForked):
        sign_checkpoint(restored)
    services.ledger_note.unlink()
    renamed = services_of(
        tmp_path, registry, f"{repository}/second", database_url=at_backup, ledger_origin="goldsmith.example/second"
    )
    assert sign_checkpoint(renamed) == 7
    with restored.database.read() as session:
        keys = [renamed.ledger_key.verifier, services.ledger_key.verifier]
        assert check_database(session, keys).checkpoints == 2


def test_the_dispatcher_asks_again_for_what_was_given_up(services: Services) -> None:
    append_records(services.database, 1)
    with services.database.write() as session:
        session.query(Errand).update({"done_at": 1.0})
    schedule_checkpoint(services)
    assert waiting(services) == 0  # it was asked for a moment ago
    with services.database.write() as session:
        session.query(Errand).update({"created_at": 1.0})
    schedule_checkpoint(services)
    assert waiting(services) == 1
    sign_checkpoint(services)
    with services.database.write() as session:
        session.query(Errand).update({"done_at": 1.0, "created_at": 1.0})
    schedule_checkpoint(services)
    assert waiting(services) == 0


class TestWithoutAKey:
    def test_nothing_can_be_signed(self, tmp_path: Path, registry: str) -> None:
        services = services_of(tmp_path, registry, "ledger/none", ledger_key_file=None)
        with pytest.raises(SettingsInvalid, match="needs the ledger's key"):
            _ = services.ledger_key

    @pytest.mark.parametrize("wrong", ["missing", "open"])
    def test_a_release_worker_does_not_start(self, tmp_path: Path, wrong: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")}
        environment |= {"GOLDSMITH_DATABASE_URL": f"sqlite:///{tmp_path / 'a.db'}"}
        if wrong == "open":
            new_key(tmp_path)
            (tmp_path / "key").chmod(0o644)
            environment["GOLDSMITH_LEDGER_KEY_FILE"] = str(tmp_path / "key")
        argv = [sys.executable, "-m", "celery", "-A", "workers.release", "worker", "-Q", "release", "-c", "1"]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "GOLDSMITH_LEDGER_KEY_FILE" in done.stderr + done.stdout

    @pytest.mark.parametrize("origin", ["a b", "a+b"])
    def test_a_ledger_has_a_name_that_a_key_can_have(self, tmp_path: Path, registry: str, origin: str) -> None:
        with pytest.raises(SettingsInvalid, match="cannot be called"):
            _ = services_of(tmp_path, registry, "ledger/none", ledger_origin=origin).ledger_key

    def test_by_default_it_is_called_after_the_builder(self, tmp_path: Path, registry: str) -> None:
        services = services_of(tmp_path, registry, "l", ledger_origin=None, builder_id="https://example.com/goldsmith/")
        assert services.ledger_origin == "example.com/goldsmith/ledger"
