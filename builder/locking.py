"""One lock between processes of a host: an flock on a file, let go when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import Unavailable


class LockTimedOut(Unavailable):
    slug = "lock-timed-out"
    title = "Another process holds a lock for too long"


@contextmanager
def exclusive(path: Path, timeout: float = 1200) -> Iterator[None]:
    """Hold the lock `path` for the length of the block; wait for it at most `timeout` seconds. Raises LockTimedOut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockTimedOut(f"{path.name} was not let go within {timeout:g} seconds") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)
