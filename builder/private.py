"""Files that hold secrets: for the eyes of their owner, from the moment they exist."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that nobody but its owner can ever have read, whatever the umask. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def open_to_others(path: Path) -> str | None:
    """The mode of a file that group or others may read or write, such as `0644`; None if it is its owner's alone.
    Raises OSError."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{mode:04o}" if mode & 0o077 else None
