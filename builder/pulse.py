"""Proof of life: each process of a worker, and the dispatcher, writes down time and again that it goes on.

A directory is one worker's own; a file in it, named by a process id, holds when that process was last heard of, in
seconds of the host's monotonic clock. Whoever is dead is of no interest: its supervisor knows.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

BEAT_SECONDS = 5.0

log = logging.getLogger("goldsmith.pulse")


def beat(directory: Path) -> None:
    """This process lives. What cannot be written is as good as silence, and no reason to stop."""
    fresh = directory / f".{os.getpid()}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_text(str(time.monotonic()))
        fresh.replace(directory / str(os.getpid()))
    except OSError as error:
        log.warning("the pulse cannot be written down: %s", error)


def forget(directory: Path) -> None:
    """This process ends."""
    (directory / str(os.getpid())).unlink(missing_ok=True)


def clear(directory: Path) -> None:
    """Remove what processes have left that were killed: their ids will be others' some day."""
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name.isdecimal() and not _lives(int(path.name)):
                path.unlink(missing_ok=True)


def silences(directory: Path) -> dict[int, float]:
    """For how many seconds each process that lives has been silent, by its id. Raises OSError."""
    found = {}
    now = time.monotonic()
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.name.isdecimal() and _lives(int(path.name)):
            with suppress(FileNotFoundError):  # ended meanwhile
                found[int(path.name)] = max(0.0, now - float(path.read_text()))
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another account's
    return True
