"""Credentials come from where they were named, go to the registry they were named for, and show nowhere."""

import base64
import json
import os
from pathlib import Path

import pytest

from builder.registry.credentials import Credentials, DockerConfig, GivenCredentials, NoCredentials
from builder.registry.errors import CredentialsInvalid

SECRET = "canary-9f2"
REGISTRY = "r.example:5000"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(directory: Path, content: object) -> DockerConfig:
    path = directory / "config.json"
    path.touch(0o600)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return DockerConfig(path)


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    "auths",
    [
        {REGISTRY: {"auth": encoded(f"ci:{SECRET}")}},
        {f"https://{REGISTRY}/v1/": {"auth": encoded(f"ci:{SECRET}")}},
        {REGISTRY: {"username": "ci", "password": SECRET}},
    ],
)
def test_an_entry_of_a_docker_configuration_is_found(tmp_path: Path, auths: object) -> None:
    source = config(tmp_path, {"auths": auths, "HttpHeaders": {}})
    assert source.find(REGISTRY) == Credentials("ci", SECRET, "config.json")
    assert source.find("other.example") is None
    assert source.find("r.example") is None


def test_given_credentials_are_for_their_registry_alone() -> None:
    given = GivenCredentials(REGISTRY, "ci", SECRET)
    assert given.find(REGISTRY) is not None
    assert given.find("other.example") is None
    assert NoCredentials().find(REGISTRY) is None


def test_a_password_shows_in_no_text() -> None:
    found = GivenCredentials(REGISTRY, "ci", SECRET).find(REGISTRY)
    assert SECRET not in f"{found} {found!r} {GivenCredentials(REGISTRY, 'ci', SECRET)!r}"


@pytest.mark.parametrize(
    "content",
    [
        f"{{{SECRET}",
        {"auths": {REGISTRY: {"auth": f"!{SECRET}"}}},
        {"auths": {REGISTRY: {"auth": encoded(SECRET)}}},
        {"auths": {REGISTRY: {"identitytoken": SECRET}}},
        {"auths": {REGISTRY: {"auth": [SECRET]}}},
        {"credHelpers": {REGISTRY: "../../bin/sh"}},
    ],
)
def test_a_broken_configuration_is_refused_without_quoting_it(tmp_path: Path, content: object) -> None:
    with pytest.raises(CredentialsInvalid) as refused:
        config(tmp_path, content).find(REGISTRY)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_configuration_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CredentialsInvalid, match="cannot be read"):
        DockerConfig(tmp_path / "none").find(REGISTRY)


def test_a_helper_is_asked_for_its_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f'read registry; echo "{{\\"Username\\":\\"$registry\\",\\"Secret\\":\\"{SECRET}\\"}}"'
    helper(tmp_path, monkeypatch, "vault", script)
    by_registry = config(tmp_path, {"credHelpers": {REGISTRY: "vault"}})
    assert by_registry.find(REGISTRY) == Credentials(REGISTRY, SECRET, "docker-credential-vault")
    assert by_registry.find("other.example") is None
    assert config(tmp_path, {"credsStore": "vault"}).find("other.example") is not None


def test_a_helper_that_does_not_know_a_registry_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "vault", '[ "$1" = list ] && echo "{}" || { echo not found; exit 1; }')
    assert config(tmp_path, {"credsStore": "vault"}).find(REGISTRY) is None


@pytest.mark.parametrize(
    "script",
    [
        f'[ "$1" = list ] && echo \'{{"{REGISTRY}":"ci"}}\' || exit 1',
        f"echo {SECRET}",
        f'echo \'{{"Username":"<token>","Secret":"{SECRET}"}}\'',
    ],
)
def test_a_helper_that_fails_is_an_error_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    helper(tmp_path, monkeypatch, "vault", script)
    with pytest.raises(CredentialsInvalid, match="docker-credential-vault") as refused:
        config(tmp_path, {"credsStore": "vault"}).find(REGISTRY)
    assert SECRET not in str(refused.value)
