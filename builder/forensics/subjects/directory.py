"""Directories and mounted root file systems as subjects, that of another process (/proc/PID/root) included."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.forensics.collector import LARGEST_FILE, Directory, Found, mount_id, read_file
from builder.forensics.subjects.subject import Described, SubjectKind, SubjectUnreadable, is_at_or_below
from builder.image.entry import Entry, EntryType, shown

_TYPES = {str(one): one for one in EntryType}


class DirectorySubject:
    """What is below a directory. No symbolic link is followed and no mount point crossed, whatever changes."""

    configuration = None

    def __init__(self, tree: Directory) -> None:
        self._tree = tree
        self._unseen = frozenset(path for path, _ in tree.mounts)
        self.described = Described(
            SubjectKind.DIRECTORY,
            tree.root,
            mounts=tuple(f"{shown(path)} ({kind})" for path, kind in tree.mounts),
            unseen=tuple(path for path, _ in tree.mounts),
        )

    @property
    def unproven(self) -> tuple[str, ...]:
        return tuple(self._tree.unproven)

    def looked_at(self, path: bytes) -> bool:
        return not is_at_or_below(path, self._unseen)

    @contextmanager
    def entries(self, directory: Path) -> Iterator[Iterator[Entry]]:  # noqa: ARG002
        """Raises SubjectUnreadable for a fault of more than one path, which are told in `unproven`."""
        yield self._entries()

    def _entries(self) -> Iterator[Entry]:
        try:
            for found in self._tree.entries():
                yield _entry(found)
        except OSError as error:
            raise SubjectUnreadable(f"{self._tree.root} cannot be read: {error}") from error

    def contents(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        for path in paths:
            try:
                fd = self._opened(path)
            except OSError:
                continue
            try:
                yield path, read_file(fd, LARGEST_FILE)
            finally:
                os.close(fd)

    def _opened(self, path: bytes) -> int:
        """A file, come to name by name so that no link is followed. Raises OSError."""
        fd = os.dup(self._tree.fd)
        try:
            for name in path.split(b"/"):
                below = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = below
            if not stat.S_ISREG(os.fstat(fd).st_mode) or mount_id(fd) != self._tree.mount:
                raise OSError(errno.EINVAL, "not a file of this tree")
        except BaseException:
            os.close(fd)
            raise
        return fd


@contextmanager
def open_directory(path: str) -> Iterator[DirectorySubject]:
    """Raises SubjectUnreadable."""
    try:
        tree = Directory(path)
    except OSError as error:
        raise SubjectUnreadable(f"{path} cannot be read: {error.strerror}", hint="see that you may, as root") from error
    with tree:
        yield DirectorySubject(tree)


def _entry(found: Found) -> Entry:
    return Entry(
        path=found.path,
        type=_TYPES[found.type],
        mode=found.mode,
        uid=found.uid,
        gid=found.gid,
        size=found.size,
        sha256=found.sha256,
        target=found.target,
        device=found.device,
        xattrs=found.xattrs,
    )
