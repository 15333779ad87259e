"""Trivy's vulnerability database: fetched by one process at a time, put in place whole, refused when it is too old.

Below `cache_dir/databases`: one directory per database that was fetched, `current` as a symbolic link to the one in
use, and a lock. A scan resolves `current` once, so what it records is what it used; the database before the current
one stays until the next exchange, for the scans that still hold it.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from builder.errors import GoldsmithError, Unavailable
from builder.locking import exclusive
from builder.scanning import java_index
from builder.scanning.binary import Trivy
from builder.scanning.database_file import read_content, read_metadata
from builder.scanning.errors import DatabaseCorrupt, DatabaseMissing, DatabaseStale
from builder.scanning.fetching import bring, bring_file, offered_by
from builder.scanning.findings import DatabaseIdentity
from builder.scanning.sources import (
    SETTING,
    ArchiveSource,
    DatabaseSource,
    DirectorySource,
    FileSource,
    ImportedSource,
)

# Above what a fetch may take: whoever waits for one must not give up first.
_LOCK_SECONDS = 1200.0
_RETRY_AFTER = timedelta(minutes=15)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Database:
    """A database in place. `directory` is what Trivy calls its cache directory; `offered` is how its source looked."""

    directory: Path
    identity: DatabaseIdentity
    offered: str | None = None


class _Record(BaseModel):
    """What we noted when we put a database in place; size and time tell without hashing that it is still that one.

    `offered` is how a file source looked then.
    """

    model_config = ConfigDict(frozen=True)

    identity: DatabaseIdentity
    size: int
    mtime_ns: int
    offered: str | None = None


@dataclass(frozen=True)
class _Wanted:
    """What a database must be: from `source`, and not older than `maximum_age` unless `allow_stale`."""

    source: DatabaseSource
    maximum_age: timedelta
    allow_stale: bool

    def usable(self, cache_dir: Path) -> Database | None:
        """The database in place, if it is that; what is wrong with it, a fetch mends."""
        try:
            database = installed(cache_dir, self.maximum_age, allow_stale=self.allow_stale)
        except Unavailable:
            return None
        return database if database.identity.source == str(self.source) else None


def installed(cache_dir: Path, maximum_age: timedelta, *, allow_stale: bool = False) -> Database:
    """The database in place, for a scan. Raises DatabaseMissing, DatabaseCorrupt or DatabaseStale.

    With `allow_stale` one that is too old is answered too, marked as stale.
    """
    database = _current(cache_dir)
    if database is None:
        raise DatabaseMissing("no vulnerability database has been fetched yet", hint=SETTING)
    identity = _judged(database.identity, maximum_age, allow_stale=allow_stale)
    return replace(database, identity=identity)


def ensure(
    trivy: Trivy,
    source: DatabaseSource,
    cache_dir: Path,
    *,
    maximum_age: timedelta,
    timeout: float,
    allow_stale: bool = False,
) -> DatabaseIdentity:
    """Have a database from `source` in place that is not older than `maximum_age`, fetching one when that is due.

    Callers side by side wait for the one that fetches. A fetch that fails leaves the old database where it is, good
    until its age ends it, or with `allow_stale` longer. Raises DatabaseMissing, DatabaseStale or DatabaseCorrupt.
    """
    root = _root(cache_dir)
    wanted = _Wanted(source, maximum_age, allow_stale)
    usable = wanted.usable(cache_dir)
    if usable and not _is_due(root, source, usable, maximum_age):
        return usable.identity
    with _locked(root):
        usable = wanted.usable(cache_dir)
        if usable and not _is_due(root, source, usable, maximum_age):
            return usable.identity
        try:
            return _fetch(trivy, root, wanted, usable, timeout).identity
        except GoldsmithError as error:
            if usable:
                _log.warning("the vulnerability database of %s stays: %s", usable.identity.updated_at, error.detail)
                return usable.identity
            raise _with_age_of_the_old(cache_dir, maximum_age, error) from error


def update(
    trivy: Trivy, source: DatabaseSource, cache_dir: Path, *, maximum_age: timedelta, timeout: float
) -> DatabaseIdentity:
    """Fetch a database now, due or not. Raises DatabaseMissing, DatabaseStale or DatabaseCorrupt; the old one stays."""
    root = _root(cache_dir)
    wanted = _Wanted(source, maximum_age, allow_stale=False)
    with _locked(root):
        return _fetch(trivy, root, wanted, wanted.usable(cache_dir), timeout).identity


def take_in(source: FileSource, cache_dir: Path, *, maximum_age: timedelta, allow_stale: bool) -> DatabaseIdentity:
    """Put a database that somebody brought in place, as imported. Raises DatabaseMissing, …Stale or …Corrupt."""
    root = _root(cache_dir)
    wanted = _Wanted(ImportedSource(), maximum_age, allow_stale)

    def fill(incoming: Path) -> None:
        (incoming / "db").mkdir()
        bring_file(source, incoming / "db")

    with _locked(root):
        return _take(root, wanted, wanted.usable(cache_dir), fill).identity


def look_at(source: FileSource, scratch: Path, *, maximum_age: timedelta, allow_stale: bool) -> Database:
    """A database in files, copied to the empty directory `scratch` and found whole.

    Raises DatabaseMissing, DatabaseStale or DatabaseCorrupt.
    """
    wanted = _Wanted(source, maximum_age, allow_stale)
    (scratch / "db").mkdir()
    bring_file(source, scratch / "db")
    return Database(scratch, _identify(scratch, wanted, datetime.now(UTC)))


def _root(cache_dir: Path) -> Path:
    root = cache_dir / "databases"
    root.mkdir(parents=True, exist_ok=True)
    return root


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
    return Database(directory, record.identity, record.offered)


def _judged(identity: DatabaseIdentity, maximum_age: timedelta, *, allow_stale: bool) -> DatabaseIdentity:
    """Marked as stale if it is too old and may be; else raises DatabaseStale."""
    age = datetime.now(UTC) - identity.updated_at
    stale = age > maximum_age
    if stale and not allow_stale:
        raise DatabaseStale(
            f"the vulnerability database is of {identity.updated_at:%Y-%m-%d %H:%M} UTC, "
            f"{_hours(age)} old; the limit is {_hours(maximum_age)}",
            hint=f"{SETTING}; GOLDSMITH_TRIVY_DATABASE_HOURS is the limit",
        )
    return identity.model_copy(update={"stale": stale})


def _hours(age: timedelta) -> str:
    return f"{age / timedelta(hours=1):.0f} hours"


def _is_due(root: Path, source: DatabaseSource, database: Database, maximum_age: timedelta) -> bool:
    if isinstance(source, ImportedSource):
        return False
    attempted = root / "attempted"
    lately = attempted.exists() and time.time() - attempted.stat().st_mtime < _RETRY_AFTER.total_seconds()
    if isinstance(source, DirectorySource | ArchiveSource):
        offered = offered_by(source)
        return offered != database.offered and not (lately and attempted.read_text() == (offered or ""))
    now = datetime.now(UTC)
    fresh = now < database.identity.next_update and now - database.identity.updated_at < maximum_age / 2
    return not fresh and not lately


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with exclusive(root / "lock", timeout=_LOCK_SECONDS):
        # Whoever holds the lock is alone: what others left half-fetched has no owner any more.
        for leftover in root.glob("incoming-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _fetch(trivy: Trivy, root: Path, wanted: _Wanted, present: Database | None, timeout: float) -> Database:
    source = wanted.source
    offered = offered_by(source) if isinstance(source, DirectorySource | ArchiveSource) else None

    def fill(incoming: Path) -> None:
        (root / "attempted").write_text(offered or "")
        bring(trivy, source, incoming, timeout=timeout)

    return _take(root, wanted, present, fill, offered)


def _take(
    root: Path, wanted: _Wanted, present: Database | None, fill: Callable[[Path], None], offered: str | None = None
) -> Database:
    """Let `fill` bring a database, look at it, and put it in place."""
    now = datetime.now(UTC)
    incoming = root / f"incoming-{uuid.uuid4().hex}"
    try:
        incoming.mkdir(mode=0o700)
        fill(incoming)
        identity = _identify(incoming, wanted, now)
        if present and identity.updated_at < present.identity.updated_at:
            raise DatabaseStale(
                f"{wanted.source} offers a database of {identity.updated_at:%Y-%m-%d %H:%M} UTC, older than the one in "
                "place"
            )
        java_index.write(incoming / "java-db", now)
        return _put_in_place(root, incoming, identity, offered)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseMissing(
            f"a vulnerability database from {wanted.source} cannot be put in place: {error}",
            hint=f"check that {root} may be written and has room",
        ) from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _identify(incoming: Path, wanted: _Wanted, now: datetime) -> DatabaseIdentity:
    metadata = read_metadata(incoming / "db" / "metadata.json", now)
    content = read_content(incoming / "db" / "trivy.db")
    identity = DatabaseIdentity(
        digest=content.digest,
        updated_at=metadata.updated_at,
        next_update=metadata.next_update,
        downloaded_at=now,
        source=str(wanted.source),
        sample=content.sample,
    )
    return _judged(identity, wanted.maximum_age, allow_stale=wanted.allow_stale)


def _put_in_place(root: Path, incoming: Path, identity: DatabaseIdentity, offered: str | None) -> Database:
    stat = (incoming / "db" / "trivy.db").stat()
    record = _Record(identity=identity, size=stat.st_size, mtime_ns=stat.st_mtime_ns, offered=offered)
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
    return Database(directory, identity, offered)
