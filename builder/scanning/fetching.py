"""Brings a database's two files from a source into a directory. Whether they are any good is not looked at here."""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.errors import ProgramFailed
from builder.scanning.archive import FILES, unpack
from builder.scanning.binary import Trivy, last_words, private_directory
from builder.scanning.errors import DatabaseMissing
from builder.scanning.sources import (
    SETTING,
    ArchiveSource,
    DatabaseSource,
    DefaultSource,
    DirectorySource,
    FileSource,
    ImportedSource,
    MirrorSource,
)


def bring(trivy: Trivy, source: DatabaseSource, incoming: Path, *, timeout: float) -> None:
    """Put trivy.db and metadata.json into `incoming/db`. Raises DatabaseMissing, DatabaseCorrupt, ProgramTimedOut."""
    (incoming / "db").mkdir()
    match source:
        case DirectorySource() | ArchiveSource():
            bring_file(source, incoming / "db")
        case DefaultSource() | MirrorSource():
            _download(trivy, source, incoming, timeout)
        case ImportedSource():
            raise DatabaseMissing("no vulnerability database has been imported", hint="goldsmith database import FILE")


def bring_file(source: FileSource, target: Path) -> None:
    if isinstance(source, ArchiveSource):
        unpack(source.path, target)
        return
    directory = directory_of(source)
    try:
        for name in FILES:
            shutil.copyfile(directory / name, target / name)
    except OSError as error:
        raise DatabaseMissing(f"the database in {directory} cannot be copied: {error.strerror}") from error


def directory_of(source: DirectorySource) -> Path:
    """Where the two files are. Raises DatabaseMissing."""
    for directory in (source.path, source.path / "db"):
        if all((directory / name).is_file() for name in FILES):
            return directory
    raise DatabaseMissing(f"{source.path} has no trivy.db with its metadata.json", hint=SETTING)


def offered_by(source: FileSource) -> str | None:
    """What changes when a file source offers another database: the date of the file that is written last."""
    try:
        path = source.path if isinstance(source, ArchiveSource) else directory_of(source) / "metadata.json"
        stat = path.stat()
    except (OSError, DatabaseMissing):
        return None
    return f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}"


def _download(trivy: Trivy, source: DefaultSource | MirrorSource, incoming: Path, timeout: float) -> None:
    arguments = ["--download-db-only", "--cache-dir", str(incoming)]
    insecure, credentials = False, None
    if isinstance(source, MirrorSource):
        arguments += ["--db-repository", source.repository]
        insecure, credentials = source.insecure, source.credentials
    try:
        with private_directory() as cwd:
            trivy.run_on_registry(arguments, cwd=cwd, timeout=timeout, insecure=insecure, credentials=credentials)
    except ProgramFailed as error:
        raise DatabaseMissing(
            f"no vulnerability database could be fetched from {source}: {last_words(error)}", hint=SETTING
        ) from error
