"""The secrets of a team deployment, as files that compose hands to the services that need them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from builder.ledger.signing import generate_key
from builder.private import write_private

# The account of the images that sign.
_SERVICE = 10001


class SecretEmpty(Exception):
    """A password was cut off, or emptied by hand."""


def write_secrets(directory: Path, *, redis_port: int, postgresql_port: int) -> list[Path]:
    """Keep the passwords and the key that are there, make those that are not, and write what follows from them and the
    ports. Answers all files. Needs to be root. Raises SecretEmpty.

    In a container its account must read them; on the host the directory, its owner's alone, keeps others out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    broker, database = _kept(directory / "redis.conf"), _kept(directory / "database_password")
    registry = directory / "registry_password"
    texts = {
        "redis.conf": f"requirepass {broker}\n",
        "database_password": database,
        "goldsmith_redis_url": f"redis://:{broker}@127.0.0.1:{redis_port}/0",
        "goldsmith_database_url": f"postgresql://goldsmith:{database}@127.0.0.1:{postgresql_port}/goldsmith",
        registry.name: registry.read_text() if registry.exists() else "",
    }
    for name, text in texts.items():
        fresh = directory / f"{name}.new"
        fresh.unlink(missing_ok=True)
        write_private(fresh, text.encode())
        fresh.chmod(0o444)
        fresh.replace(directory / name)
    key = directory / "ledger.key"
    if not key.exists():
        generate_key(key)
    for own in (key, registry):  # Goldsmith looks that nobody else can read these
        own.chmod(0o600)
        os.chown(own, _SERVICE, _SERVICE)
    return [directory / name for name in (*texts, key.name)]


def _kept(file: Path) -> str:
    """The password that a file has, or a new one."""
    if not file.exists():
        return secrets.token_urlsafe(32)
    found = file.read_text().strip().rpartition(" ")[2]
    if not found:
        raise SecretEmpty(f"{file} has no password; put the old one back, or remove the file for a new one")
    return found
