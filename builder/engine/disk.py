"""What a container may write to disk, held on every engine: few of them can set a quota of their own.

Asked is the size of what the container has written. What lies in files without a name, and files without a size, are in
no such sum: those show in what the engine's disk has left, where that can be seen from here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from docker import APIClient

from builder.engine.faults import translated
from builder.errors import Rejected, StorageFull

_EVERY_SECONDS = 1.0
# To count is the engine's work: of its time at most a twentieth.
_SHARE = 20.0
# Below these other builds, and the host, are in danger.
_LEAST_FREE_BYTES = 256 * 1024 * 1024
_LEAST_FREE_FILES = 2_000


class DiskQuotaExceeded(Rejected):
    slug = "disk-quota-exceeded"
    title = "The build wrote more to disk than it may"


class DiskQuota:
    """At most `limit` bytes of one container, and something left on the disk below `root`, which may be elsewhere."""

    def __init__(self, api: APIClient, container_id: str, limit: int, root: Path | None) -> None:
        self._api = api
        self._id = container_id
        self._limit = limit
        self._root = root
        self._next = 0.0

    def check(self) -> None:
        """Look, unless that was done a moment ago. Raises DiskQuotaExceeded, or StorageFull."""
        if time.monotonic() >= self._next:
            self.look()

    def look(self) -> None:
        """Raises DiskQuotaExceeded, or StorageFull."""
        started = time.monotonic()
        written = self._written()
        now = time.monotonic()
        self._next = now + max(_EVERY_SECONDS, (now - started) * _SHARE)
        if written > self._limit:
            raise DiskQuotaExceeded(
                f"the build has written {written} bytes to disk; {self._limit} are allowed",
                hint="write less, or ask the operator: GOLDSMITH_BUILD_DISK_BYTES is the limit",
            )
        if self._root is not None and _is_full(self._root):
            raise StorageFull("the engine's disk is almost full", hint="an operator must free some: docs/operator.md")

    def _written(self) -> int:
        with translated():
            # The SDK's own request to inspect asks for no sizes.
            url = f"{self._api.base_url}/v{self._api.api_version}/containers/{self._id}/json"
            answer = self._api.get(url, params={"size": "1"}, timeout=self._api.timeout)
        return int(answer.json().get("SizeRw") or 0) if answer.ok else 0  # it is gone: whoever works in it is told


def _is_full(root: Path) -> bool:
    try:
        left = os.statvfs(root)
    except OSError:
        return False  # an engine elsewhere has such a directory, and we have none, or may not look
    files = left.f_files > 0 and left.f_favail < _LEAST_FREE_FILES
    return files or left.f_bavail * left.f_frsize < _LEAST_FREE_BYTES
