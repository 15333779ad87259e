"""Trivy's vulnerability database: fetched by one process at a time, put in place whole, refused when it is too old.

Below `cache_dir/databases`: one directory per database that was fetched, `current` as a symbolic link to the one in
use, and a lock. A scan resolves `current` once, so what it records is what it used; the database before the current
one stays until the next exchange, for the scans that still hold it.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from builder.errors import GoldsmithError, ProgramFailed, Unavailable
from builder.locking import exclusive
from builder.scanning import java_index
from builder.scanning.binary import Credentials, Trivy, last_words, private_directory
from builder.scanning.database_file import Metadata, read_content, read_metadata
from builder.scanning.errors import DatabaseCorrupt, DatabaseMissing, DatabaseStale
from builder.scanning.findings import DatabaseIdentity

_SETTING = "set GOLDSMITH_TRIVY_DATABASE to an OCI repository that this host reaches, or to a directory with trivy.db"
# Above what a fetch may take: whoever waits for one must not give up first.
_LOCK_SECONDS = 1200.0
_RETRY_AFTER = timedelta(minutes=15)
_log = logging.getLogger(__name__)


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


DatabaseSource = DefaultSource | MirrorSource | DirectorySource


def database_source(
    text: str | None, *, insecure: bool = False, credentials: Credentials | None = None
) -> DatabaseSource:
    """The source a setting names: nothing is Trivy's own, what begins with `/` or `.` is a directory, else a mirror."""
    if not text:
        return DefaultSource()
    if text.startswith(("/", ".")):
        return DirectorySource(Path(text))
    return MirrorSource(text, insecure, credentials)


@dataclass(frozen=True)
class Database:
    """A database in place. `directory` is what Trivy calls its cache directory."""

    directory: Path
    identity: DatabaseIdentity


class _Record(BaseModel):
    """What we noted when we put a database in place; size and time tell without hashing that it is still that one."""

    model_config = ConfigDict(frozen=True)

    identity: DatabaseIdentity
    size: int
    mtime_ns: int


def installed(cache_dir: Path, maximum_age: timedelta) -> Database:
    """The database in place, for a scan. Raises DatabaseMissing, DatabaseCorrupt or DatabaseStale."""
    database = _current(cache_dir)
    if database is None:
        raise DatabaseMissing("no vulnerability database has been fetched yet", hint=_SETTING)
    _check_age(database.identity, maximum_age)
    return database


def ensure(
    trivy: Trivy, source: DatabaseSource, cache_dir: Path, *, maximum_age: timedelta, timeout: float
) -> DatabaseIdentity:
    """Have a database from `source` in place that is not older than `maximum_age`, fetching one when that is due.

    Callers side by side wait for the one that fetches. A fetch that fails leaves the old database where it is, good
    until its age ends it. Raises DatabaseMissing, DatabaseStale or DatabaseCorrupt.
    """
    root = cache_dir / "databases"
    root.mkdir(parents=True, exist_ok=True)
    usable = _usable(cache_dir, source, maximum_age)
    if usable and not _is_due(root, source, usable, maximum_age):
        return usable.identity
    with _locked(root):
        usable = _usable(cache_dir, source, maximum_age)
        if usable and not _is_due(root, source, usable, maximum_age):
            return usable.identity
        try:
            (root / "attempted").touch()
            return _fetch(trivy, source, root, usable, maximum_age, timeout).identity
        except GoldsmithError as error:
            if usable:
                _log.warning("the vulnerability database of %s stays: %s", usable.identity.updated_at, error.detail)
                return usable.identity
            raise _with_age_of_the_old(cache_dir, maximum_age, error) from error


def _with_age_of_the_old(cache_dir: Path, maximum_age: timedelta, error: GoldsmithError) -> GoldsmithError:
    """Without a new database, a person must hear of the old one's age as well as of why there is no new one."""
    try:
        installed(cache_dir, maximum_age)
    except DatabaseStale as stale:
        return DatabaseStale(f"{stale.detail}; and {error.detail}", hint=stale.hint)
    except Unavailable:
        pass
    return error


def _current(cache_dir: Path) -> Database | None:
    root = cache_dir / "databases"
    try:
        directory = root / (root / "current").readlink()
        record = _Record.model_validate_json((directory / "record.json").read_bytes())
        stat = (directory / "db" / "trivy.db").stat()
        metadata_there = (directory / "db" / "metadata.json").is_file()
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DatabaseCorrupt(f"the vulnerability database in place cannot be read: {type(error).__name__}") from error
    unchanged = (stat.st_size, stat.st_mtime_ns) == (record.size, record.mtime_ns)
    if not metadata_there or not (
        unchanged or read_content(directory / "db" / "trivy.db").digest == record.identity.digest
    ):
        raise DatabaseCorrupt("the vulnerability database was changed after it was put in place", hint="fetch it again")
    return Database(directory, record.identity)


def _check_age(identity: DatabaseIdentity, maximum_age: timedelta) -> None:
    age = datetime.now(UTC) - identity.updated_at
    if age > maximum_age:
        raise DatabaseStale(
            f"the vulnerability database is of {identity.updated_at:%Y-%m-%d %H:%M} UTC, "
            f"{_hours(age)} old; the limit is {_hours(maximum_age)}",
            hint=f"{_SETTING}; GOLDSMITH_TRIVY_DATABASE_HOURS is the limit",
        )


def _hours(age: timedelta) -> str:
    return f"{age / timedelta(hours=1):.0f} hours"


def _usable(cache_dir: Path, source: DatabaseSource, maximum_age: timedelta) -> Database | None:
    """The database in place if a scan could use it and it is from `source`; what is wrong with it, a fetch mends."""
    try:
        database = installed(cache_dir, maximum_age)
    except Unavailable:
        return None
    return database if database.identity.source == str(source) else None


def _is_due(root: Path, source: DatabaseSource, database: Database, maximum_age: timedelta) -> bool:
    if isinstance(source, DirectorySource):
        try:
            offered = _directory_of(source).joinpath("metadata.json").read_bytes()
        except (OSError, DatabaseMissing):
            return True
        return offered != (database.directory / "db" / "metadata.json").read_bytes()
    now = datetime.now(UTC)
    if now < database.identity.next_update and now - database.identity.updated_at < maximum_age / 2:
        return False
    attempted = root / "attempted"
    return not attempted.exists() or time.time() - attempted.stat().st_mtime > _RETRY_AFTER.total_seconds()


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with exclusive(root / "lock", timeout=_LOCK_SECONDS):
        # Whoever holds the lock is alone: what others left half-fetched has no owner any more.
        for leftover in root.glob("incoming-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _fetch(
    trivy: Trivy, source: DatabaseSource, root: Path, present: Database | None, maximum_age: timedelta, timeout: float
) -> Database:
    now = datetime.now(UTC)
    incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=root))
    try:
        (incoming / "db").mkdir()
        if isinstance(source, DirectorySource):
            _copy(source, incoming / "db")
        else:
            _download(trivy, source, incoming, timeout)
        metadata = read_metadata(incoming / "db" / "metadata.json", now)
        identity = _identify(incoming, source, metadata, now)
        _check_age(identity, maximum_age)
        if present and identity.updated_at < present.identity.updated_at:
            raise DatabaseStale(
                f"{source} offers a database of {identity.updated_at:%Y-%m-%d %H:%M} UTC, older than the one in place"
            )
        java_index.write(incoming / "java-db", now)
        return _put_in_place(root, incoming, identity)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _identify(incoming: Path, source: DatabaseSource, metadata: Metadata, now: datetime) -> DatabaseIdentity:
    content = read_content(incoming / "db" / "trivy.db")
    return DatabaseIdentity(
        digest=content.digest,
        updated_at=metadata.updated_at,
        next_update=metadata.next_update,
        downloaded_at=now,
        source=str(source),
        sample=content.sample,
    )


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
            f"no vulnerability database could be fetched from {source}: {last_words(error)}", hint=_SETTING
        ) from error


def _directory_of(source: DirectorySource) -> Path:
    for directory in (source.path, source.path / "db"):
        if (directory / "trivy.db").is_file() and (directory / "metadata.json").is_file():
            return directory
    raise DatabaseMissing(f"{source.path} has no trivy.db with its metadata.json", hint=_SETTING)


def _copy(source: DirectorySource, target: Path) -> None:
    directory = _directory_of(source)
    try:
        for name in ("trivy.db", "metadata.json"):
            shutil.copyfile(directory / name, target / name)
    except OSError as error:
        raise DatabaseMissing(f"the database in {directory} cannot be copied: {error.strerror}") from error


def _put_in_place(root: Path, incoming: Path, identity: DatabaseIdentity) -> Database:
    stat = (incoming / "db" / "trivy.db").stat()
    record = _Record(identity=identity, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
    (incoming / "record.json").write_text(record.model_dump_json())
    incoming.chmod(0o755)
    directory = root / f"{identity.digest.removeprefix('sha256:')[:16]}-{time.time_ns()}"
    incoming.rename(directory)
    before = (root / "current").readlink().name if (root / "current").is_symlink() else None
    link = root / "incoming-link"
    link.unlink(missing_ok=True)
    link.symlink_to(directory.name)
    link.replace(root / "current")
    for old in root.iterdir():
        if old.is_dir() and not old.is_symlink() and old.name not in (directory.name, before):
            shutil.rmtree(old, ignore_errors=True)
    return Database(directory, identity)
