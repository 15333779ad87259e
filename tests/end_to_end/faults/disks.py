"""A disk that is full when a test says so: a file system in memory that is made as small as what is in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    def __init__(self, mounted: Path) -> None:
        self._mounted = mounted

    @contextmanager
    def full(self) -> Iterator[None]:
        found = os.statvfs(self._mounted)
        self._resize(str((found.f_blocks - found.f_bfree) * found.f_frsize))
        try:
            yield
        finally:
            self._resize("4g")

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self._mounted)], check=True)


@contextmanager
def on_a_disk_of_its_own(directory: Path) -> Iterator[Disk]:
    """Moves what is in the directory there, and back at the end. Nobody may have a file of it open at these moments."""
    before = directory.rename(directory.with_name(f"{directory.name}.before"))
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "none", str(directory)], check=True)
    try:
        _copy(before, directory)
        yield Disk(directory)
        after = directory.with_name(f"{directory.name}.after")
        _copy(directory, after)
        before.rename(directory.with_name(f"{directory.name}.old"))
        before = after
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
        directory.rmdir()
        before.rename(directory)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--archive", "--no-target-directory", str(source), str(target)], check=True)
