"""The client configuration: where the API is, the key for it, and whom to trust. A JSON file, docs/cli.md."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.alias_generators import to_camel

from builder.errors import Rejected

_BESIDE = Path(".goldsmith") / "client.json"


class ConfigurationInvalid(Rejected):
    slug = "client-configuration-invalid"
    title = "The client configuration cannot be used"


class Configuration(BaseModel):
    """`trusted_root` is a file, relative to the configuration's own directory, or "public" for the public Sigstore;
    `rebuilder` is whose attestations of reproduced images to believe, vouched for by the same issuer; `ledger_key` is
    whose checkpoints of the ledger to believe, a verifier key."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    url: str | None = None
    key: SecretStr | None = None
    trusted_root: str | None = None
    identity: str | None = None
    issuer: str | None = None
    rebuilder: str | None = None
    ledger_key: str | None = None


@dataclass(frozen=True)
class Found:
    """A configuration and its file. `chosen` tells one that was named, or is the user's own, from one that lay in the
    current directory or above it."""

    path: Path
    configuration: Configuration
    chosen: bool


def find_configuration(named: Path | None, directory: Path, home: Path) -> Found | None:
    """The file that was named, else the first above `directory`, else the user's own.

    Raises ConfigurationInvalid for a file that cannot be read, or that others could have written or can read a key in.
    """
    if named is not None:
        return Found(named, _load(named), chosen=True)
    for parent in (directory, *directory.parents):
        if (parent / _BESIDE).is_file():
            return Found(parent / _BESIDE, _load(parent / _BESIDE), chosen=False)
    own = _own(home)
    return Found(own, _load(own), chosen=True) if own.is_file() else None


def place_to_save(named: Path | None, directory: Path, home: Path) -> Path:
    """Where a new configuration goes: where `find_configuration` will look first and may write."""
    if named is not None:
        return named
    beside = next((parent for parent in (directory, *directory.parents) if (parent / ".goldsmith").is_dir()), None)
    return beside / _BESIDE if beside else _own(home)


def save(path: Path, configuration: Configuration) -> None:
    """Write the file with mode 0600, whole or not at all."""
    content = configuration.model_dump(mode="json", by_alias=True, exclude_none=True)
    if configuration.key is not None:
        content["key"] = configuration.key.get_secret_value()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes it 0600 from the start.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".client-")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(json.dumps(content, indent=2) + "\n")
        Path(name).replace(path)
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be written: {error.strerror}") from error


def _own(home: Path) -> Path:
    return home / ".config" / "goldsmith" / "client.json"


def _load(path: Path) -> Configuration:
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read(1024 * 1024)
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationInvalid(f"{path} can be written by others", hint=f"chown it to you and chmod 600 {path}")
    try:
        configuration = Configuration.model_validate_json(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in entry['loc']) or 'file'}: {entry['msg']}"
            for entry in error.errors(include_input=False, include_url=False)[:3]
        )
        # Not chained: the cause would quote what stands in the file.
        raise ConfigurationInvalid(
            f"{path}: {faults}", hint="allowed: url, key, trustedRoot, identity, issuer, rebuilder, ledgerKey"
        ) from None
    if configuration.key is not None and status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise ConfigurationInvalid(f"{path} holds a key and others can read it", hint=f"chmod 600 {path}")
    return configuration
