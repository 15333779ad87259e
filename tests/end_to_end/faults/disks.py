"""A disk that is full when a test says so: a file system in memory that is made as small as what is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
def on_a_disk_of_its_own(directory: Path, stop: Callable[[], object]) -> Iterator[Disk]:
    """Moves what is in the directory there, and back at the end, whatever happened meanwhile. `stop` stops whoever has
    files of it open."""
    before, after = (directory.with_name(f"{directory.name}.{when}") for when in ("before", "after"))
    stop()
    with ExitStack() as undoing:
        directory.rename(before)
        undoing.callback(_put_back, directory, before, after)
        directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "none", str(directory)], check=True)
        undoing.callback(subprocess.run, ["umount", "--lazy", str(directory)], check=True)
        _copy(before, directory)
        undoing.callback(_save, directory, after)
        undoing.callback(stop)
        yield Disk(directory)


def _save(directory: Path, after: Path) -> None:
    partial = after.with_name(f"{after.name}.partial")
    _copy(directory, partial)
    partial.rename(after)


def _put_back(directory: Path, before: Path, after: Path) -> None:
    """What there is now, or, where that could not be copied, what there was."""
    if directory.exists():
        directory.rmdir()
    if after.exists():
        after.rename(directory)
        shutil.rmtree(before)
    else:
        before.rename(directory)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--archive", "--no-target-directory", str(source), str(target)], check=True)
