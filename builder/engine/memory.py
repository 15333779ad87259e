"""A file system in memory for one command: what it writes there need not wait for a disk, and ends with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from builder.errors import GoldsmithError
from builder.process import run

_MEMINFO, _GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup")
# Where each version of control groups keeps: a group's limit, its use, and what of that the kernel can take back.
_VERSION_1 = (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file")
_MOUNT = 'mount -t tmpfs -o "size=$1,mode=0700" goldsmith "$2" && shift 2 && exec "$@"'


def in_memory(directory: Path, size: int) -> list[str]:
    """Words to put before a command, so that an empty `directory` is in memory for it alone, up to `size` bytes.

    The mount is in a namespace of the command's own: it is gone when the command is, however that ends. No words at
    all where memory is short (twice `size` must be free), or this process may not mount.
    """
    words = ["unshare", "--mount", "/bin/sh", "-c", _MOUNT, "in-memory", str(size), str(directory)]
    if available() < 2 * size:
        return []
    try:
        run([*words, "true"], timeout=10)
    except GoldsmithError:
        return []
    return words


def available() -> int:
    """Bytes of memory that this process may still take without anybody being killed for it, as well as can be told."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE)
    return min([int(match[1]) * 1024 if match else 0, *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """What each control group above us leaves, those that have no limit left out."""
    for line in _GROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, limit, use, reclaimable = _VERSION_1 if controllers else _VERSION_2
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            directory = root / group.relative_to("/")
            # A container sees its own group at the root, not at its path; `max` is no number.
            with suppress(OSError, ValueError):
                most = int((directory / limit).read_text())
                used = int((directory / use).read_text())
                kept = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
                yield most - used + int(kept.get(reclaimable, 0))
