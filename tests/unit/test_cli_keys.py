"""`goldsmith key`: keys with scopes and an end, listed, revoked."""

import json
import time
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.store import keys
from builder.store.database import Database

Output = pytest.CaptureFixture[str]
DAY = 86400


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


def create(line: str, capsys: Output) -> dict[str, object]:
    assert main(["key", "create", *line.split(), "--json"]) == 0
    made: dict[str, object] = json.loads(capsys.readouterr().out)
    return made


def test_a_key_has_the_scopes_and_the_end_that_were_asked_for(database: Database, capsys: Output) -> None:
    line = ["key", "create", "ci", "--scope", "builds:read", "--scope", "builds:write", "--expires", "90d"]
    assert main(line) == 0
    told = capsys.readouterr()
    with database.read() as session:
        found = keys.find_key(session, told.out.strip())
    assert found is not None
    assert (found.name, found.scopes) == ("ci", ["builds:write", "builds:read"])
    assert found.expires_at == pytest.approx(time.time() + 90 * DAY, abs=60)
    assert "cannot be shown again" in told.err


def test_the_old_command_makes_a_key_for_everything(database: Database, capsys: Output) -> None:
    assert main(["admin", "create-key", "me", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["scopes"], made["expiresAt"]) == (["admin"], None)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ci", "--scope"),
        ("ci --scope everything", "everything"),
        ("ci --scope admin --expires 0d", "not in the future"),
        ("ci --scope admin --expires 2020-01-01", "not in the future"),
        ("ci --scope admin --expires soon", "no day such as"),
        ("ci --scope admin --expires 9999-12-31", "no day such as"),
        ("ci --scope admin --expires 90w", "no day such as"),
    ],
)
def test_what_makes_no_sense_makes_no_key(database: Database, capsys: Output, line: str, told: str) -> None:
    assert main(["key", "create", *line.split()]) == 64
    assert told in capsys.readouterr().err
    with database.read() as session:
        assert keys.every(session, revoked=True) == []


def test_the_list_says_what_each_may_do_and_how_it_is(database: Database, capsys: Output) -> None:
    made = [
        create(line, capsys)
        for line in ("ci --scope builds:read", "old --scope admin --expires 1", "gone --scope admin")
    ]
    with database.write() as session:
        for one in keys.every(session):
            if one.name == "old":
                one.expires_at = 1.0
            elif one.name == "ci":
                keys.note_use(session, one, 0.0)
    assert main(["key", "revoke", str(made[2]["id"])]) == 0
    capsys.readouterr()
    assert main(["key", "list"]) == 0
    heading, ci, old = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        "KEY",
        "NAME",
        "STATE",
        "SCOPES",
        "RECIPES",
        "TEAM",
        "CREATED",
        "EXPIRES",
        "LAST",
        "USED",
    ]
    assert ci.split()[:4] == [made[0]["id"], "ci", "active", "builds:read"]
    assert ci.endswith("never             1970-01-01 00:00")
    assert old.split()[:3] == [made[1]["id"], "old", "EXPIRED"]
    assert main(["key", "list", "--all", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["keys"]
    assert [one["name"] for one in listed] == ["ci", "old", "gone"]
    assert [one["revokedAt"] is None for one in listed] == [True, True, False]
    assert not {"key", "keyHash"} & set(listed[0])


def test_a_revoked_key_is_nobodys(database: Database, capsys: Output) -> None:
    key = str(create("ci --scope admin", capsys)["key"])
    assert main(["key", "revoke", "ci"]) == 0
    with database.read() as session:
        assert keys.find_key(session, key) is None
    assert main(["key", "revoke", "ci"]) == 1
    assert "goldsmith key list" in capsys.readouterr().err


def test_a_name_that_several_keys_have_is_refused_with_their_ids(database: Database, capsys: Output) -> None:
    ids = [str(create("ci --scope admin", capsys)["id"]) for _ in range(2)]
    assert main(["key", "revoke", "ci"]) == 1
    told = capsys.readouterr().err
    assert all(one in told for one in ids)
    assert main(["key", "revoke", ids[0]]) == 0
    assert main(["key", "revoke", "ci"]) == 0


def test_a_key_is_bound_to_recipes(database: Database, capsys: Output) -> None:
    made = create("ci --scope builds:write --recipe web --recipe web-*", capsys)
    assert made["recipes"] == ["web", "web-*"]
    with database.read() as session:
        assert keys.every(session)[0].recipes == ["web", "web-*"]
    assert main(["key", "list"]) == 0
    assert "web, web-*" in capsys.readouterr().out
    assert main(["key", "create", "x", "--scope", "admin", "--recipe", "We b"]) == 64
    assert "lower-case letters" in capsys.readouterr().err


def test_a_key_is_of_a_team(database: Database, capsys: Output) -> None:
    assert create("ci --scope builds:write --team web-shop", capsys)["team"] == "web-shop"
    assert create("alone --scope builds:write", capsys)["team"] is None
    with database.read() as session:
        assert [one.team for one in keys.every(session)] == ["web-shop", None]
    assert main(["key", "list"]) == 0
    assert "web-shop" in capsys.readouterr().out
    assert main(["key", "create", "x", "--scope", "admin", "--team", "Web Shop"]) == 64
    assert "lower-case letters" in capsys.readouterr().err
