"""The secrets of a team deployment, as files that compose hands to the services that need them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from builder.ledger.signing import generate_key

# Who reads what: the accounts of the images. A file in a directory that only its owner enters is nobody else's.
_SERVICE = 10001


def write_secrets(directory: Path, *, redis_port: int, postgresql_port: int) -> list[Path]:
    """Write whatever is not there yet, and leave the rest; answers what was written. Needs to be root."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    broker, database = _kept(directory / "redis.conf"), _kept(directory / "database_password")
    written = {
        "redis.conf": f"requirepass {broker}\n",
        "database_password": database,
        "goldsmith_redis_url": f"redis://:{broker}@127.0.0.1:{redis_port}/0",
        "goldsmith_database_url": f"postgresql://goldsmith:{database}@127.0.0.1:{postgresql_port}/goldsmith",
    }
    for name, text in written.items():
        file = directory / name
        file.touch(mode=0o600)
        file.write_text(text)
        file.chmod(0o444)  # the directory keeps others out; in a container its account must read it
    key = directory / "ledger.key"
    if not key.exists():
        generate_key(key)
    os.chown(key, _SERVICE, _SERVICE)
    return [directory / name for name in (*written, key.name)]


def _kept(file: Path) -> str:
    """The password that a file has, or a new one."""
    return file.read_text().strip().rpartition(" ")[2] if file.exists() else secrets.token_urlsafe(32)
