"""The files that commands write where they are told to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from builder.errors import Rejected


class NotWritten(Rejected):
    slug = "not-written"
    title = "The file cannot be written"


def refuse_unwritable(path: Path) -> None:
    """Before long work for nothing. Raises NotWritten."""
    if path.is_dir():
        raise _not_written(path, "it is a directory")
    if not path.parent.is_dir():
        raise _not_written(path, f"there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise _not_written(path, "no permission")


def write(path: Path, content: bytes) -> None:
    """Raises NotWritten."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _not_written(path, error.strerror or "it failed") from error


@contextmanager
def writing_anew(path: Path) -> Iterator[IO[bytes]]:
    """A new file, which is not there if it could not be written whole. Raises NotWritten."""
    try:
        file = path.open("xb")
    except OSError as error:
        raise _not_written(path, error.strerror or "it failed") from error
    try:
        with file:
            yield file
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _not_written(path, error.strerror or "it failed") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _not_written(path: Path, why: str) -> NotWritten:
    return NotWritten(f"cannot write {path}: {why}", hint="name another file with --output")
