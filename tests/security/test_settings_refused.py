"""Settings that would be a secret that is none, or one that others may read, stop a process before it does anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from builder.cli.configuration import Configuration, ConfigurationInvalid, find_configuration, save
from builder.errors import GoldsmithError, SettingsInvalid
from builder.ledger.signing import LedgerKey, generate_key
from builder.pipeline import notifying
from builder.pipeline.services import Services
from builder.private import is_example, write_private
from builder.registry.credentials import DockerConfig
from builder.registry.errors import CredentialsInvalid
from builder.settings import Settings, load_settings
from builder.signing.identity import ClientCredentials, IdentityRefused, TokenFile
from builder.store.database import Database

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


def client_secret(path: Path) -> object:
    return ClientCredentials("http://127.0.0.1:9/token", "goldsmith", path)._secret()


def webhook_secret(path: Path) -> object:
    return notifying._secret(path)


def docker_password(path: Path) -> object:
    return DockerConfig(path).find("r.example")


def signing_token(path: Path) -> object:
    return TokenFile(path).token()


def client_configuration(path: Path) -> object:
    return find_configuration(path, path.parent, path.parent)


READERS: dict[str, tuple[Callable[[Path], object], str, type[GoldsmithError]]] = {
    "the registry's password": (registry_password, "9f8d7c-K2", SettingsInvalid),
    "the signer's secret": (client_secret, "9f8d7c-K2", SettingsInvalid),
    "the webhook's secret": (webhook_secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SettingsInvalid),
    "Docker's passwords": (
        docker_password,
        '{"auths": {"r.example": {"auth": "Y2k6azctY2FuYXJ5"}}}',
        CredentialsInvalid,
    ),
    "the client's key": (
        client_configuration,
        '{"url": "https://g.example", "key": "k7-canary"}',
        ConfigurationInvalid,
    ),
}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o602])
@pytest.mark.parametrize("what", READERS)
def test_a_secret_that_others_may_read_or_write_is_refused(tmp_path: Path, what: str, mode: int) -> None:
    read, content, error = READERS[what]
    path = tmp_path / "secret"
    write_private(path, content.encode())
    assert read(path)
    path.chmod(mode)
    with pytest.raises(error) as told:
        read(path)
    assert "others" in told.value.detail
    assert f"chmod 600 {path}" in (told.value.hint or "")
    assert content not in f"{told.value.detail}{told.value.hint}"


@pytest.mark.parametrize("mode", [0o660, 0o622, 0o606])
def test_a_token_that_others_may_write_signs_nothing(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text("a.b.c")
    path.chmod(0o644)  # as platforms hand them out
    assert signing_token(path) == "a.b.c"
    path.chmod(mode)
    with pytest.raises(IdentityRefused, match=f"mode {mode:04o}: others may write it"):
        signing_token(path)


def test_a_docker_configuration_without_passwords_may_be_read_by_all(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"auths": {}}')
    path.chmod(0o644)
    assert DockerConfig(path).find("r.example") is None


def test_what_we_write_ourselves_is_nobody_elses(tmp_path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        write_private(tmp_path / "private", b"x")
        generate_key(tmp_path / "ledger.key")
        save(tmp_path / "client.json", Configuration(url="https://g.example", key=SecretStr("k7-canary")))
        database = Database(f"sqlite:///{tmp_path / 'goldsmith.db'}")
        database.migrate()
        database.close()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes.pop("goldsmith.db") & 0o007 == 0, "an account for each process may share a group"
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}


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
