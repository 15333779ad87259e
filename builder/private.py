"""Files that hold secrets: for the eyes of their owner, from the moment they exist."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from builder.errors import SettingsInvalid

# What stands in documentation, and what programs come with.
_EXAMPLES = frozenset(
    (
        "admin", "changeit", "changeme", "default", "example", "foobar", "goldsmith", "guest", "letmein", "pass",
        "passw0rd", "password", "placeholder", "postgres", "qwerty", "redis", "registry", "replaceme", "root", "secret",
        "test", "todo",
    )
)  # fmt: skip


def is_example(secret: str) -> bool:
    """Whether a secret is none: empty, one character again and again, or a word that anybody would try first."""
    plain = "".join(c for c in secret.lower() if c.isalnum())
    return len(set(secret)) < 2 or plain.rstrip("0123456789") in _EXAMPLES or plain in _EXAMPLES


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that nobody but its owner can ever have read, whatever the umask. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def refuse_open(path: Path, setting: str) -> None:
    """Raises SettingsInvalid for a file that group or others may read or write, and OSError."""
    mode = open_to_others(path)
    if mode is not None:
        raise SettingsInvalid(
            f"{setting}: {path} has mode {mode}: others may read or write it", hint=f"chmod 600 {path}"
        )


def open_to_others(path: Path) -> str | None:
    """The mode of a file that group or others may read or write, such as `0644`; None if it is its owner's alone.
    Raises OSError."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{mode:04o}" if mode & 0o077 else None
