"""Settings that would be a secret that is none, or one that others may read, stop a process before it does anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import SettingsInvalid
from builder.ledger.signing import LedgerKey, generate_key
from builder.pipeline.services import Services
from builder.private import is_example, write_private
from builder.settings import Settings, load_settings

EXAMPLES = [
    "",
    "password",
    "changeme",
    "secret",
    "Password1",
    "change-me",
    "goldsmith",
    "postgres",
    "admin123",
    "xxxxxxxx",
]


@pytest.mark.parametrize("password", EXAMPLES)
@pytest.mark.parametrize(
    ("name", "url"),
    [("DATABASE_URL", "postgresql://goldsmith:{}@db.example/goldsmith"), ("REDIS_URL", "redis://:{}@redis.example/0")],
)
def test_an_example_or_empty_password_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, password: str
) -> None:
    monkeypatch.setenv(f"GOLDSMITH_{name}", url.format(password))
    with pytest.raises(SettingsInvalid, match=f"{name} has a password that anybody would try first") as told:
        load_settings()
    assert not password or f":{password}@" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["postgresql://goldsmith@/x?host=/run/pg", "postgresql://u:9f8d7c-K2@h/d", "sqlite:///x.db"]
)
def test_a_real_one_or_none_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("GOLDSMITH_DATABASE_URL", url)
    assert load_settings().database_url == url


def registry_password(path: Path) -> object:
    settings = Settings(registry_username="ci", registry_password_file=path, state_directory=path.parent)
    return Services(settings).credentials


def test_a_password_of_the_registry_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text("9f8d7c-K2")
    registry_password(path)
    path.chmod(0o644)
    with pytest.raises(SettingsInvalid, match="has mode 0644: others may read it"):
        registry_password(path)


@pytest.mark.parametrize("password", EXAMPLES)
def test_an_example_as_password_of_the_registry_is_refused(tmp_path: Path, password: str) -> None:
    write_private(tmp_path / "password", password.encode())
    with pytest.raises(SettingsInvalid, match="anybody would try first"):
        registry_password(tmp_path / "password")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_a_key_of_the_ledger_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ledger.key"
    generate_key(path)
    path.chmod(mode)
    with pytest.raises(SettingsInvalid, match=f"{mode:04o}"):
        LedgerKey.load(path, "example.com/ledger")


@pytest.mark.parametrize("secret", ["9f8d7c-K2", "correct horse battery", "k7-canary", "hunter2x!", "Tr0ub4dor&3"])
def test_what_is_none_of_these_is_no_example(secret: str) -> None:
    assert not is_example(secret)
