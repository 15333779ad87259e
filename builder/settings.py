"""All settings, typed, from environment variables that begin with GOLDSMITH_. Nothing else reads the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from builder.errors import SettingsInvalid
from builder.private import is_example

_MIB = 1024 * 1024
_LISTS = (
    "insecure_registries", "private_registries", "trivy_sha256", "exception_approvers", "high_priority_callers",
    "ledger_witnesses", "webhook_events", "git_hosts",
)  # fmt: skip
# A limit that an operator has set must not be gone without a word.
_RENAMED = {"GOLDSMITH_BUILDS_PER_CALLER": "GOLDSMITH_BUILDS_PER_TEAM"}


class Settings(BaseSettings):
    """One field, one variable: `registry` is GOLDSMITH_REGISTRY; an empty one counts as not set.

    `docs/settings.md` lists them.
    """

    model_config = SettingsConfigDict(
        env_prefix="GOLDSMITH_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # Where things are
    state_directory: Path = Field(default=Path(".goldsmith/state"), description="Caches, spools and locks of a worker.")
    recipes_directory: Path = Field(default=Path("recipes"), description="The recipes offered by name.")
    database_url: str = Field(
        repr=False,  # it may hold a password
        default="sqlite:///.goldsmith/state/goldsmith.db",
        description="SQLAlchemy URL: SQLite or PostgreSQL (psycopg).",
    )
    redis_url: SecretStr = Field(default=SecretStr("redis://127.0.0.1:6379/0"), description="Celery's broker.")

    # Recipes from Git repositories (only the API)
    git_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The hosts that recipes may be taken from, HOST or HOST:PORT, comma-separated; by default none.",
    )
    git_private: bool = Field(
        default=False, description="Let these hosts be at a private or loopback address, and over plain HTTP."
    )
    git_seconds: int = Field(default=30, ge=1, le=90, description="Time limit of fetching and reading a commit.")
    git_bytes: int = Field(default=64 * _MIB, ge=65536, description="Limit of a commit's size, as it is sent.")

    # Registry
    registry: str = Field(default="127.0.0.1:5000", description="host[:port] that images are pushed to.")
    registry_username: str | None = None
    registry_password_file: Path | None = Field(default=None, description="A file with the password, mode 0600.")
    docker_config: Path | None = Field(default=None, description="A Docker config.json with registry credentials.")
    insecure_registries: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Registries spoken to over plain HTTP, comma-separated; loopback ones always are."
    )
    private_registries: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Registries at private or loopback addresses that recipes and comparisons may name, beside "
        "`registry` and `insecure_registries`; comma-separated HOST[:PORT].",
    )

    # Container engine (only the build worker)
    engine_url: str = Field(default="unix:///var/run/docker.sock", description="The Docker Engine of the build worker.")
    build_memory_bytes: int = Field(default=2048 * _MIB, ge=64 * _MIB, description="Memory limit of a build container.")
    build_cpus: float = Field(default=2.0, gt=0, allow_inf_nan=False, description="CPU limit of a build container.")
    build_processes: int = Field(default=512, ge=16, description="Process limit of a build container.")
    build_disk_bytes: int = Field(
        default=16 * 1024 * _MIB, ge=16 * _MIB, description="Limit of what a build container may write to disk."
    )
    engine_runtime: str | None = Field(
        default=None,
        description="The OCI runtime of build and test containers, as the engine calls it, such as `runsc` (gVisor) or "
        "`kata`; by default the engine's own.",
    )
    build_seconds: int = Field(default=1800, ge=10, description="Time limit of a whole build step.")
    build_log_bytes: int = Field(default=8 * _MIB, ge=4096, description="Limit of a build's log.")
    network_steps: bool = Field(default=True, description="Whether a recipe's `run` steps may ask for a network.")
    build_secrets_directory: Path | None = Field(
        default=None,
        description="A directory with the secrets of the service's own recipes, `RECIPE/NAME`, mode 0600, for steps "
        "that name them: docs/security/secrets.md.",
    )
    image_bytes: int = Field(default=16 * 1024 * _MIB, ge=_MIB, description="Limit of an image's uncompressed size.")
    engine_cache_bytes: int = Field(
        default=10 * 1024 * _MIB,
        ge=0,
        description="Limit of the base images kept in the engine; the least recently used go.",
    )

    # Debian archives
    debian_mirror: str | None = Field(
        default=None, description="Base URL of the Debian archive; by default the one this host's own apt uses."
    )
    debian_security_mirror: str | None = Field(default=None, description="The same for the security archive.")
    extra_archives: Path | None = Field(
        default=None,
        description="A file of signed archives beside Debian's that recipes may take packages from: docs/archives.md.",
    )
    cache_bytes: int = Field(
        default=10 * 1024 * _MIB, ge=0, description="Limit of the packages kept on disk; the least recently used go."
    )
    index_minutes: int = Field(default=15, ge=0, description="How long fetched archive indexes count as current.")

    # Scanner
    trivy: Path | None = Field(
        default=None, description="The Trivy binary; by default the one installed with Goldsmith."
    )
    trivy_sha256: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The sha256 of each Trivy binary that may run, comma-separated; by default any is, and recorded.",
    )
    trivy_memory_bytes: int = Field(
        default=2048 * _MIB, ge=256 * _MIB, description="Memory limit of one run of Trivy, mapped files aside."
    )
    trivy_database: str | None = Field(
        default=None,
        description="Trivy's database: an OCI repository, a directory, a .tar.gz, or `imported`; by default Trivy's "
        "own source.",
    )
    trivy_database_hours: int = Field(default=48, ge=1, description="Maximum age of the database; older fails closed.")
    trivy_seconds: int = Field(default=600, ge=1, description="Time limit of one scan.")

    # Policy
    policy: Path | None = Field(
        default=None,
        description="The organisation's policy, a YAML file (docs/policy.md), the same for the API and all workers; a "
        "default holds without one.",
    )

    # Exceptions, and released images scanned again
    issuers: Path | None = Field(
        default=None, description="A file of the issuers whose tokens are accepted beside API keys: docs/identity.md."
    )
    exception_approvers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Names of the API keys that may make exceptions, comma-separated; by default none may."
    )
    exception_days: int = Field(default=180, ge=1, description="How many days ahead an exception may expire.")
    rescan_minutes: int = Field(
        default=60, ge=0, description="How often to look for a newer database and scan releases again; 0 is never."
    )
    webhook_url: str | None = Field(
        default=None, description="A webhook beside those that are made through the API: an https URL, signed notices."
    )
    webhook_secret_file: Path | None = Field(
        default=None, description="A file with the webhook's secret, `whsec_` and base64 (Standard Webhooks)."
    )
    webhook_events: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("findings.risen",), description="What that webhook is told of, comma-separated, such as `build.*`."
    )
    webhook_private: bool = Field(
        default=False, description="Let webhooks be at a private or loopback address, and over plain HTTP."
    )

    # Signer (the release worker, and a rebuild worker as another identity)
    sigstore_trust_config: Path | None = Field(
        default=None, description="Client trust configuration of a private Sigstore; by default the public instance."
    )
    signer_identity: str | None = Field(default=None, description="The identity our own certificates must carry.")
    signer_issuer: str | None = Field(default=None, description="The OIDC issuer our own certificates must carry.")
    rebuilder_identity: str | None = Field(
        default=None, description="The identity that a rebuild worker's own certificates must carry."
    )
    rebuilder_issuer: str | None = Field(default=None, description="The OIDC issuer of a rebuild worker's identity.")
    identity_token_file: Path | None = Field(default=None, description="A file with an identity token, read anew.")
    identity_token_url: str | None = Field(default=None, description="Token endpoint for a client-credentials grant.")
    identity_client_id: str | None = None
    identity_client_secret_file: Path | None = None
    signer_seconds: int = Field(default=30, ge=1, description="Time limit of one signature.")

    # Ledger (the key: only the release worker)
    ledger_key_file: Path | None = Field(
        default=None,
        description="The Ed25519 key that signs checkpoints, PEM, mode 0600. No release worker starts without.",
    )
    ledger_origin: str | None = Field(
        default=None,
        description="What the ledger is called in its checkpoints, for good; by default `builder_id` without its "
        "scheme, and `/ledger`.",
    )
    ledger_repository: str = Field(
        default="goldsmith/ledger", description="The repository of the registry that checkpoints are pushed to."
    )
    ledger_witnesses: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Verifier keys (C2SP) of witnesses that may cosign checkpoints, comma-separated."
    )

    # Comparisons
    comparison_rules: Path | None = Field(
        default=None, description="A YAML file with rules of judgement that come before the shipped ones."
    )
    comparison_bytes: int = Field(
        default=4 * 1024 * _MIB, ge=4096, description="Limit of an upload to compare, as it is sent."
    )

    # The service itself
    log_format: Literal["text", "json"] = Field(
        default="text", description="Logs for people, or a JSON object a line: docs/observability.md."
    )
    traces_url: str | None = Field(
        default=None,
        description="Where workers and API send traces (OTLP over HTTP), such as `http://127.0.0.1:4318/v1/traces`; by "
        "default nowhere.",
    )
    secrets_directory: Path | None = Field(
        default=None,
        description="A directory with settings as files, named like their variables in lower case "
        "(`goldsmith_database_url`), such as `/run/secrets`; variables win.",
    )
    builder_id: str = Field(
        default="https://goldsmith.invalid/builder/shared-engine",
        description="SLSA builder.id: a URI that names this installation. Set it to one that you own.",
    )
    high_priority_callers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Names of callers that may ask for builds of high priority, comma-separated; administrators may.",
    )
    requests_per_minute: int = Field(
        default=6000, ge=0, description="How many requests a caller may send a minute; 0 is no limit."
    )
    jobs_per_minute: int = Field(
        default=600, ge=0, description="How many of them may ask for work of a worker, such as a build; 0 is no limit."
    )
    idempotency_hours: int = Field(
        default=24, ge=1, description="How long the answer to a request with an `Idempotency-Key` is kept."
    )
    pulse_directory: Path | None = Field(
        default=None,
        description="A directory of one worker's or dispatcher's own, in which its processes prove that they go on; "
        "`goldsmith doctor` for its role looks there.",
    )
    lease_seconds: int = Field(default=60, ge=2, description="A worker that is silent for so long has lost its build.")
    maximum_attempts: int = Field(
        default=3, ge=1, description="How often a build is tried whose worker died, or that met what may pass."
    )
    builds_per_team: int = Field(
        default=0, ge=0, description="How many builds of one team are worked on at once; 0 is no limit."
    )
    waiting_builds: int = Field(
        default=20_000, ge=0, description="How many builds may wait to be begun; more are refused. 0 is no limit."
    )

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        for name in _LISTS:
            listed = values.get(name)
            if isinstance(listed, str):
                values[name] = tuple(part.strip() for part in listed.split(",") if part.strip())
        return values

    @field_validator("webhook_events")
    @classmethod
    def _events(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [value for value in values if not re.fullmatch(r"\*|[a-z]+\.(\*|[a-z]+)", value)]
        if wrong:
            raise ValueError("each must be an event such as build.failed, a group such as build.*, or *")
        return values

    @field_validator("trivy_sha256")
    @classmethod
    def _digests(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        digests = tuple(value.removeprefix("sha256:").lower() for value in values)
        if not all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests):
            raise ValueError("each must be a sha256 of 64 hex digits")
        return digests

    @model_validator(mode="after")
    def _no_example_passwords(self) -> Self:
        for name, url in (("DATABASE_URL", self.database_url), ("REDIS_URL", self.redis_url.get_secret_value())):
            try:
                password = urlsplit(url).password
            except ValueError:
                continue  # whoever connects says what is wrong with it
            if password is not None and is_example(unquote(password)):
                raise ValueError(f"{name} has a password that anybody would try first; `scripts/secrets` makes others")
        return self

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        grant = (self.identity_token_url, self.identity_client_id, self.identity_client_secret_file)
        if any(grant) and not all(grant):
            raise ValueError("IDENTITY_TOKEN_URL, IDENTITY_CLIENT_ID and IDENTITY_CLIENT_SECRET_FILE go together")
        if bool(self.registry_username) != bool(self.registry_password_file):
            raise ValueError("REGISTRY_USERNAME and REGISTRY_PASSWORD_FILE go together")
        if bool(self.signer_identity) != bool(self.signer_issuer):
            raise ValueError("SIGNER_IDENTITY and SIGNER_ISSUER go together")
        if bool(self.webhook_url) != bool(self.webhook_secret_file):
            raise ValueError("WEBHOOK_URL and WEBHOOK_SECRET_FILE go together")
        if bool(self.rebuilder_identity) != bool(self.rebuilder_issuer):
            raise ValueError("REBUILDER_IDENTITY and REBUILDER_ISSUER go together")
        return self


def load_settings() -> Settings:
    """From the environment, and from files in GOLDSMITH_SECRETS_DIRECTORY that are named like variables, in lower case;
    the environment wins.

    Raises SettingsInvalid that names each variable at fault and never shows a value.
    """
    secrets = os.environ.get("GOLDSMITH_SECRETS_DIRECTORY") or None
    if secrets is not None and not Path(secrets).is_dir():
        raise SettingsInvalid(
            f"GOLDSMITH_SECRETS_DIRECTORY: there is no directory {secrets}", hint="docs/operator.md lists every setting"
        )
    # Variables count in any case, as files do.
    given = {name.upper() for name, value in os.environ.items() if value}
    given |= {path.name.upper() for path in Path(secrets).iterdir()} if secrets is not None else set()
    for old, new in _RENAMED.items():
        if old in given:
            raise SettingsInvalid(f"{old} is {new} now", hint=f"set {new}; docs/operator.md says what it does")
    try:
        return Settings(_secrets_dir=secrets)  # type: ignore[call-arg]
    except ValidationError as error:
        faults = "; ".join(
            f"{'GOLDSMITH_' + '_'.join(str(p) for p in entry['loc']).upper() if entry['loc'] else 'settings'}: "
            f"{entry['msg']}"
            for entry in error.errors(include_input=False, include_url=False)
        )
        raise SettingsInvalid(faults, hint="docs/operator.md lists every setting") from error
