"""The adapters behind the ports, each made once and only where it is used: the one place that wires settings to them.

A worker of one queue touches only its own: build the engine, scan the scanner, release the signer.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from builder.engine.bases import BaseImages
from builder.engine.docker import Engine, Limits
from builder.errors import SettingsInvalid
from builder.ledger.note import VerifierKey, is_key_name, parse_key
from builder.ledger.signing import LedgerKey
from builder.pipeline.installed import Installed
from builder.planning.debs import DebStore
from builder.planning.extra import read_extra_archives
from builder.planning.mirrors import Mirrors, find_mirrors
from builder.policy.checked import checked_policy
from builder.policy.organisation import DEFAULT, OrganisationPolicy
from builder.policy.reading import PolicyInvalid
from builder.private import is_example, refuse_open
from builder.recipes.git import GitSources
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.credentials import (
    Credentials,
    CredentialSource,
    DockerConfig,
    GivenCredentials,
    NoCredentials,
)
from builder.registry.reference import Repository
from builder.scanning.binary import Credentials as ScannerCredentials
from builder.scanning.binary import Trivy
from builder.scanning.sources import DatabaseSource, database_source
from builder.scanning.trivy import Scanner
from builder.settings import Settings
from builder.signing.identity import AmbientIdentity, ClientCredentials, IdentitySource, TokenFile
from builder.signing.signer import Signer
from builder.signing.trust import Trust
from builder.store.database import Database

_MOMENT_SECONDS = 2.0


class Services:
    """Everything a stage may need, from settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url)

    @property
    def spool(self) -> Path:
        return self._directory("spool")

    @property
    def uploads(self) -> Path:
        return self._directory("uploads")

    @property
    def archive_directory(self) -> Path:
        return self._directory("apt")

    @cached_property
    def git(self) -> GitSources:
        settings = self.settings
        return GitSources(
            settings.git_hosts,
            private=settings.git_private,
            seconds=settings.git_seconds,
            max_bytes=settings.git_bytes,
        )

    @cached_property
    def debs(self) -> DebStore:
        return DebStore(self._directory("debs"))

    @cached_property
    def mirrors(self) -> Mirrors:
        path = self.settings.extra_archives
        extra = read_extra_archives(path) if path else ()
        return find_mirrors(self.settings.debian_mirror, self.settings.debian_security_mirror, extra)

    @cached_property
    def credentials(self) -> CredentialSource:
        settings = self.settings
        if settings.registry_username and settings.registry_password_file:
            password = _secret(settings.registry_password_file, "GOLDSMITH_REGISTRY_PASSWORD_FILE")
            return GivenCredentials(settings.registry, settings.registry_username, password)
        if settings.docker_config:
            return DockerConfig(settings.docker_config)
        return NoCredentials()

    @cached_property
    def registry(self) -> RegistryClient:
        return RegistryClient(self._access, lock_directory=self._directory("locks"))

    @cached_property
    def impatient_registry(self) -> RegistryClient:
        """For whoever answers a request: it asks once, and waits for a moment only."""
        access = replace(self._access, patience=_MOMENT_SECONDS, attempts=1)
        return RegistryClient(access, lock_directory=self._directory("locks"))

    @property
    def _access(self) -> Access:
        settings = self.settings
        insecure = frozenset(settings.insecure_registries)
        inner = insecure | {settings.registry, *settings.private_registries}
        return Access(credentials=self.credentials, insecure=insecure, inner=inner)

    @cached_property
    def engine(self) -> Engine:
        settings = self.settings
        limits = Limits(
            settings.build_memory_bytes, settings.build_cpus, settings.build_processes, settings.build_disk_bytes
        )

        def login(registry: str) -> tuple[str, str] | None:
            found = self.credentials.find(registry)
            return (found.username, found.password) if found else None

        return Engine(settings.engine_url, limits, login, runtime=settings.engine_runtime)

    @cached_property
    def bases(self) -> BaseImages:
        return BaseImages(self.engine, self._directory("roots"))

    @cached_property
    def installed(self) -> Installed:
        return Installed()

    @cached_property
    def trivy(self) -> Trivy:
        return Trivy(
            self.settings.trivy or Path(sys.executable).parent / "trivy",
            allowed=self.settings.trivy_sha256,
            memory=self.settings.trivy_memory_bytes,
        )

    @property
    def trivy_cache(self) -> Path:
        return self._directory("trivy")

    @cached_property
    def scanner(self) -> Scanner:
        return Scanner(
            self.trivy,
            self.trivy_cache,
            timeout=self.settings.trivy_seconds,
            maximum_age=self.database_age,
        )

    @property
    def database_age(self) -> timedelta:
        return timedelta(hours=self.settings.trivy_database_hours)

    @property
    def scan_login(self) -> ScannerCredentials | None:
        found = self._login()
        return ScannerCredentials(found.username, found.password) if found else None

    @property
    def database_source(self) -> DatabaseSource:
        source = self.settings.trivy_database
        host = (source or "").partition("/")[0]
        login = self.credentials.find(host) if source else None
        return database_source(
            source,
            insecure=host in self.settings.insecure_registries,
            credentials=ScannerCredentials(login.username, login.password) if login else None,
        )

    @property
    def policy(self) -> OrganisationPolicy:
        """Read anew each time: a change holds from the next judgement on. Raises SettingsInvalid."""
        path = self.settings.policy
        if path is None:
            return DEFAULT
        try:
            return checked_policy(path.read_bytes(), str(path))
        except OSError as error:
            raise SettingsInvalid(f"GOLDSMITH_POLICY: {path} cannot be read: {error.strerror}") from error
        except PolicyInvalid as error:
            raise SettingsInvalid(f"GOLDSMITH_POLICY: {error.detail}", errors=error.errors) from error

    @property
    def trust(self) -> Trust:
        return self.settings.sigstore_trust_config or "public"

    def new_signer(self) -> Signer:
        """A signer for one job: it lives as long as its certificate."""
        return Signer(self.trust, identity_source(self.settings), time_limit=self.settings.signer_seconds)

    @cached_property
    def ledger_key(self) -> LedgerKey:
        """Raises SettingsInvalid."""
        path = self.settings.ledger_key_file
        if path is None:
            raise SettingsInvalid(
                "a release worker needs the ledger's key: what it releases is recorded, and the record signed",
                hint="`goldsmith ledger key generate FILE` makes one; set GOLDSMITH_LEDGER_KEY_FILE",
            )
        return LedgerKey.load(path, self.ledger_origin)

    @property
    def ledger_origin(self) -> str:
        """Raises SettingsInvalid for what no key can be named."""
        settings = self.settings
        origin = settings.ledger_origin or settings.builder_id.rpartition("://")[2].rstrip("/") + "/ledger"
        if not is_key_name(origin):
            raise SettingsInvalid(
                f"a ledger cannot be called {origin!r}: a name has no spaces and no plus sign",
                hint="set GOLDSMITH_LEDGER_ORIGIN, such as example.com/goldsmith/ledger",
            )
        return origin

    @property
    def ledger_witnesses(self) -> list[VerifierKey]:
        """Raises VerifierKeyInvalid."""
        return [parse_key(text) for text in self.settings.ledger_witnesses]

    @property
    def ledger_repository(self) -> Repository:
        return Repository(self.settings.registry, self.settings.ledger_repository)

    @property
    def ledger_note(self) -> Path:
        """Where the release worker notes down what it signed last, out of the database's reach."""
        return self._directory("ledger") / "checkpoint"

    def staging(self, repository: str) -> Repository:
        """Where an image waits until it may be released."""
        return Repository(self.settings.registry, f"staging/{repository}")

    def released(self, repository: str) -> Repository:
        return Repository(self.settings.registry, repository)

    def _login(self) -> Credentials | None:
        return self.credentials.find(self.settings.registry)

    def _directory(self, name: str) -> Path:
        path = (self.settings.state_directory / name).absolute()
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path


def identity_source(settings: Settings) -> IdentitySource:
    """Whose token signs: a file's, a client's, or the one that the surroundings offer."""
    if settings.identity_token_file:
        return TokenFile(settings.identity_token_file)
    if settings.identity_token_url and settings.identity_client_id and settings.identity_client_secret_file:
        return ClientCredentials(
            settings.identity_token_url, settings.identity_client_id, settings.identity_client_secret_file
        )
    return AmbientIdentity()


def _secret(path: Path, setting: str) -> str:
    try:
        refuse_open(path, setting)
        secret = path.read_text("utf-8").strip()
    except OSError as error:
        raise SettingsInvalid(f"{setting}: {path} cannot be read: {error.strerror}") from error
    if is_example(secret):
        raise SettingsInvalid(f"{setting}: {path} has what anybody would try first", hint="choose another password")
    return secret
