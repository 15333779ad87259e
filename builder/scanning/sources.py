"""Where a vulnerability database comes from, as a setting names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from builder.scanning.binary import Credentials

IMPORTED = "imported"
SETTING = (
    "set GOLDSMITH_TRIVY_DATABASE to an OCI repository that this host reaches, to a directory with trivy.db, to a "
    "db.tar.gz, or to `imported` after `goldsmith database import`"
)
_ARCHIVES = (".tar.gz", ".tgz")


@dataclass(frozen=True)
class DefaultSource:
    """Where Trivy itself looks: its makers' public registries."""

    def __str__(self) -> str:
        return "trivy-default"


@dataclass(frozen=True)
class MirrorSource:
    """An OCI repository, `host[:port]/repository[:tag]`; the tag is the schema version, 2, when left out."""

    repository: str
    insecure: bool = False
    credentials: Credentials | None = None

    def __str__(self) -> str:
        return f"oci:{self.repository}"


@dataclass(frozen=True)
class DirectorySource:
    """A directory with trivy.db and metadata.json, or with a directory `db` that holds them."""

    path: Path

    def __str__(self) -> str:
        return f"directory:{self.path}"


@dataclass(frozen=True)
class ArchiveSource:
    """A tar.gz with trivy.db and metadata.json, as Trivy publishes its own."""

    path: Path

    def __str__(self) -> str:
        return f"archive:{self.path}"


@dataclass(frozen=True)
class ImportedSource:
    """What an operator brought with `goldsmith database import`. Nothing is ever fetched for it."""

    def __str__(self) -> str:
        return IMPORTED


FileSource = DirectorySource | ArchiveSource
DatabaseSource = DefaultSource | MirrorSource | FileSource | ImportedSource


def database_source(
    text: str | None, *, insecure: bool = False, credentials: Credentials | None = None
) -> DatabaseSource:
    """The source a setting names: none is Trivy's own, a path is a directory or archive; `imported`; else a mirror."""
    if not text:
        return DefaultSource()
    if text == IMPORTED:
        return ImportedSource()
    if text.startswith(("/", ".")):
        return file_source(Path(text))
    return MirrorSource(text, insecure, credentials)


def file_source(path: Path) -> FileSource:
    """By its name, so that a file that is not there yet is what it will be."""
    return ArchiveSource(path) if path.name.endswith(_ARCHIVES) else DirectorySource(path)
