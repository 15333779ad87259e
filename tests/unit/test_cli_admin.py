"""`goldsmith admin`: the database, keys that are shown once, and a sample database that says what it is."""

import json
import stat
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.scanning.sources import DirectorySource, database_source
from builder.store import keys
from builder.store.database import Database

Output = pytest.CaptureFixture[str]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GOLDSMITH_URL", "GOLDSMITH_API_KEY", "GOLDSMITH_CLIENT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    url = f"sqlite:///{tmp_path / 'goldsmith.db'}"
    monkeypatch.setenv("GOLDSMITH_DATABASE_URL", url)
    found = Database(url)
    found.migrate()
    return found


def owner(database: Database, key: str) -> str | None:
    with database.read() as session:
        found = keys.find_key(session, key)
        return found.name if found else None


def test_migrating_twice_is_once_and_makes_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output
) -> None:
    url = f"sqlite:///{tmp_path / 'deeper/new.db'}"
    monkeypatch.setenv("GOLDSMITH_DATABASE_URL", url)
    assert main(["admin", "migrate"]) == 0
    assert main(["admin", "migrate"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert owner(Database(url), "nobody") is None


@pytest.mark.parametrize(
    "command", ["key list", "key create x --scope admin", "key revoke x", "admin create-key x", "audit"]
)
def test_an_empty_database_is_not_made_in_the_wrong_directory(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output, command: str
) -> None:
    monkeypatch.delenv("GOLDSMITH_DATABASE_URL")
    assert main(command.split()) == 1
    told = capsys.readouterr().err
    assert str(tmp_path / ".goldsmith/state/goldsmith.db") in told
    assert "GOLDSMITH_DATABASE_URL" in told
    assert not (tmp_path / ".goldsmith").exists()


def test_a_key_is_printed_alone_so_that_scripts_can_take_it(database: Database, capsys: Output) -> None:
    assert main(["admin", "create-key", "ci"]) == 0
    told = capsys.readouterr()
    assert owner(database, told.out.strip()) == "ci"
    assert "cannot be shown again" in told.err


def test_a_key_is_saved_with_its_url_and_not_printed(database: Database, capsys: Output, tmp_path: Path) -> None:
    assert main(["admin", "create-key", "me", "--save", "--url", "http://127.0.0.1:9000"]) == 0
    path = tmp_path / "home/.config/goldsmith/client.json"
    kept = json.loads(path.read_text())
    assert kept["url"] == "http://127.0.0.1:9000"
    assert owner(database, kept["key"]) == "me"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = capsys.readouterr()
    assert kept["key"] not in told.out + told.err
    assert str(path) in told.out


def test_saving_keeps_what_else_is_configured(database: Database, tmp_path: Path) -> None:
    path = tmp_path / ".goldsmith" / "client.json"
    path.parent.mkdir()
    path.write_text('{"url": "http://127.0.0.1:9000", "identity": "me", "trustedRoot": "root.json"}')
    path.chmod(0o600)
    assert main(["admin", "create-key", "me", "--save"]) == 0
    kept = json.loads(path.read_text())
    assert (kept["url"], kept["identity"], kept["trustedRoot"]) == ("http://127.0.0.1:9000", "me", "root.json")
    assert owner(database, kept["key"]) == "me"


def test_a_key_as_json(database: Database, capsys: Output) -> None:
    assert main(["admin", "create-key", "ci", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert owner(database, made["key"]) == made["name"] == "ci"


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "\x1b[2J"])
def test_a_name_that_cannot_be_shown_is_refused(database: Database, name: str) -> None:
    assert main(["admin", "create-key", name]) == 64


def test_settings_that_are_wrong_are_named(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setenv("GOLDSMITH_DATABASE_URL", "not a url")
    assert main(["admin", "migrate"]) == 1
    assert "GOLDSMITH_DATABASE_URL is not a database URL" in capsys.readouterr().err


def test_a_sample_database_is_written_and_says_that_it_is_not_complete(
    database: Database, capsys: Output, tmp_path: Path
) -> None:
    assert main(["admin", "sample-database", "--output", str(tmp_path / "db")]) == 0
    told = capsys.readouterr()
    assert "SAMPLE" in told.err
    assert "not complete" in told.err
    setting = told.out.strip().removeprefix("GOLDSMITH_TRIVY_DATABASE=")
    assert database_source(setting) == DirectorySource(tmp_path / "db")
    assert {one.name for one in (tmp_path / "db").iterdir()} == {"trivy.db", "metadata.json"}
    assert main(["admin", "sample-database", "--output", str(tmp_path / "db"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["sample"], made["complete"]) == (True, False)
