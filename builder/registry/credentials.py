"""Where a registry's credentials come from: given outright, or from a Docker `config.json` and its helpers."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.errors import ProgramFailed
from builder.private import open_to_others
from builder.process import run
from builder.registry.errors import CredentialsInvalid

_HELPER_SECONDS = 30
_HELPER_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Credentials:
    """A user name and password; `source` says for error texts where they come from. The password never shows."""

    username: str
    password: str = field(repr=False)
    source: str

    def __str__(self) -> str:
        return f"user {self.username!r} from {self.source}"


class CredentialSource(Protocol):
    def find(self, registry: str) -> Credentials | None:
        """The credentials for HOST[:PORT], or None to go without. Raises CredentialsInvalid."""


@dataclass(frozen=True)
class NoCredentials:
    def find(self, registry: str) -> Credentials | None:  # noqa: ARG002
        return None


@dataclass(frozen=True)
class GivenCredentials:
    """One user and password for one registry, and no other."""

    registry: str
    username: str
    password: str = field(repr=False)

    def find(self, registry: str) -> Credentials | None:
        return Credentials(self.username, self.password, "the settings") if registry == self.registry else None


class _Auth(BaseModel):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None


class _DockerConfig(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    auths: dict[str, _Auth] = {}
    helpers: dict[str, str] = Field(default={}, alias="credHelpers")
    store: str | None = Field(default=None, alias="credsStore")


class _HelperAnswer(BaseModel):
    username: str = Field(alias="Username")
    secret: str = Field(alias="Secret")


@dataclass(frozen=True)
class DockerConfig:
    """Docker's `config.json`: `credHelpers`, then `auths`, then `credsStore`. Read each time, for logins change it."""

    path: Path

    def find(self, registry: str) -> Credentials | None:
        try:
            config = _DockerConfig.model_validate_json(self.path.read_bytes())
        except OSError as error:
            raise CredentialsInvalid(f"{self.path.name} cannot be read: {error.strerror}") from error
        except ValidationError:
            # Not chained: the cause would quote what stands in the file.
            raise CredentialsInvalid(f"{self.path.name} is not a Docker client's configuration") from None
        if registry in config.helpers:
            return _ask_helper(config.helpers[registry], registry)
        for key, auth in config.auths.items():
            if _host(key) == registry and (auth.auth or auth.username or auth.identitytoken):
                return self._decode(auth, registry)
        return _ask_helper(config.store, registry) if config.store else None

    def _decode(self, auth: _Auth, registry: str) -> Credentials:
        mode = open_to_others(self.path)
        if mode is not None:
            raise CredentialsInvalid(
                f"{self.path.name} holds a password for {registry} and has mode {mode}: others may read or write it",
                hint=f"chmod 600 {self.path}",
            )
        if auth.identitytoken:
            raise _token_login(registry, self.path.name)
        if auth.username and auth.password:
            return Credentials(auth.username, auth.password, self.path.name)
        try:
            text = base64.b64decode(auth.auth or "", validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise CredentialsInvalid(f"the entry for {registry} in {self.path.name} is not base64") from None
        username, colon, password = text.rstrip("\0").partition(":")
        if not colon or not username:
            raise CredentialsInvalid(f"the entry for {registry} in {self.path.name} is not USER:PASSWORD in base64")
        return Credentials(username, password, self.path.name)


def _host(key: str) -> str:
    """Keys are HOST[:PORT], or addresses such as https://HOST/v1/ from older clients."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _ask_helper(name: str, registry: str) -> Credentials | None:
    if not _HELPER_NAME.fullmatch(name):
        raise CredentialsInvalid(f"{name[:60]!r} is not the name of a credential helper")
    program = f"docker-credential-{name}"
    try:
        answer = run([program, "get"], stdin=registry.encode(), timeout=_HELPER_SECONDS, max_output=64 * 1024)
    except ProgramFailed as error:
        # A registry the helper does not know ends with exit code 1 like any failure; only its list tells them apart.
        try:
            known = run([program, "list"], timeout=_HELPER_SECONDS, max_output=1024 * 1024).stdout
            if registry not in {_host(address) for address in json.loads(known)}:
                return None
        except (ProgramFailed, ValueError, TypeError):
            pass
        raise CredentialsInvalid(f"{program} has no credentials for {registry}: {error.detail}") from None
    try:
        found = _HelperAnswer.model_validate_json(answer.stdout)
    except ValidationError:
        raise CredentialsInvalid(f"{program} gave an answer for {registry} that is not its protocol's") from None
    if found.username == "<token>":
        raise _token_login(registry, program)
    return Credentials(found.username, found.secret, program)


def _token_login(registry: str, source: str) -> CredentialsInvalid:
    return CredentialsInvalid(
        f"{source} holds an identity token for {registry}, which is not supported",
        hint="log in with a user name and a password or access token",
    )
