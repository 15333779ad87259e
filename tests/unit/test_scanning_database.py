"""The vulnerability database: whole or refused, fresh or refused, exchanged at once, and a sample is known as one."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builder.scanning.archive import pack
from builder.scanning.binary import Credentials, Trivy
from builder.scanning.database import Database, ensure, installed, take_in
from builder.scanning.errors import DatabaseCorrupt, DatabaseMissing, DatabaseStale, ScannerUnusable
from builder.scanning.findings import DatabaseIdentity
from builder.scanning.sample import bolt
from builder.scanning.sample.build import build_sample
from builder.scanning.sources import (
    ArchiveSource,
    DefaultSource,
    DirectorySource,
    ImportedSource,
    MirrorSource,
    database_source,
)

TWO_DAYS = timedelta(days=2)
HOUR = timedelta(hours=1)
NO_TRIVY = Trivy(Path("/nonexistent/trivy"))  # a directory needs no Trivy to be read


def offer(directory: Path, *, age: timedelta = HOUR, trivy_db: bytes | None = None) -> DirectorySource:
    """A directory with a database made `age` ago; the sample unless other content is given."""
    made = datetime.now(UTC) - age
    sample = build_sample(made, made + timedelta(days=1))
    sample.write(directory)
    if trivy_db is not None:
        (directory / "trivy.db").write_bytes(trivy_db)
    return DirectorySource(directory)


def fetch(source: DirectorySource, cache: Path) -> DatabaseIdentity:
    return ensure(NO_TRIVY, source, cache, maximum_age=TWO_DAYS, timeout=10)


def in_place(cache: Path) -> Database:
    return installed(cache, TWO_DAYS)


def test_nothing_fetched_is_missing_and_says_which_setting_helps(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing) as caught:
        in_place(tmp_path)
    assert "GOLDSMITH_TRIVY_DATABASE" in (caught.value.hint or "")
    assert caught.value.retryable


def test_a_database_from_a_directory_is_put_in_place(tmp_path: Path) -> None:
    identity = fetch(offer(tmp_path / "offer"), tmp_path / "cache")
    database = in_place(tmp_path / "cache")
    assert database.identity == identity
    assert (database.directory / "db" / "trivy.db").read_bytes() == (tmp_path / "offer" / "trivy.db").read_bytes()
    assert (database.directory / "java-db" / "trivy-java.db").is_file()
    assert identity.source == f"directory:{tmp_path / 'offer'}"


def test_a_cache_directory_of_trivy_is_a_directory_too(tmp_path: Path) -> None:
    offer(tmp_path / "offer" / "db")
    assert fetch(DirectorySource(tmp_path / "offer"), tmp_path / "cache").sample


def test_the_sample_is_known_by_its_content_and_nothing_else_is(tmp_path: Path) -> None:
    assert fetch(offer(tmp_path / "sample"), tmp_path / "a").sample
    other = bolt.write({b"vulnerability": {b"CVE-2023-4911": b"{}"}})
    assert not fetch(offer(tmp_path / "other", trivy_db=other), tmp_path / "b").sample


def test_the_marker_is_found_across_the_border_of_two_reads(tmp_path: Path) -> None:
    marker = b"goldsmith-sample-database"
    first = bolt.write({b"key": marker}).find(marker)
    for shift in range(1, len(marker)):
        data = bolt.write({b"key": b"x" * ((1 << 20) - first - shift) + marker})
        assert data.find(marker) == (1 << 20) - shift
        assert fetch(offer(tmp_path / str(shift), trivy_db=data), tmp_path / f"cache{shift}").sample


def test_an_old_database_is_stale_and_the_error_says_how_old(tmp_path: Path) -> None:
    fetch(offer(tmp_path / "offer", age=timedelta(hours=30)), tmp_path / "cache")
    assert installed(tmp_path / "cache", timedelta(hours=31))
    with pytest.raises(DatabaseStale, match=r"30 hours old; the limit is 29 hours"):
        installed(tmp_path / "cache", timedelta(hours=29))


def test_fetching_an_old_database_is_stale(tmp_path: Path) -> None:
    with pytest.raises(DatabaseStale):
        fetch(offer(tmp_path / "offer", age=timedelta(days=3)), tmp_path / "cache")
    with pytest.raises(DatabaseMissing):
        in_place(tmp_path / "cache")


def test_a_stale_database_with_no_way_to_a_new_one_says_both(tmp_path: Path) -> None:
    source = offer(tmp_path / "offer", age=timedelta(hours=30))
    fetch(source, tmp_path / "cache")
    (source.path / "trivy.db").unlink()
    with pytest.raises(DatabaseStale, match=r"30 hours old.*has no trivy\.db"):
        ensure(NO_TRIVY, source, tmp_path / "cache", maximum_age=timedelta(hours=29), timeout=10)


def test_a_database_from_the_future_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseCorrupt, match="yet to come"):
        fetch(offer(tmp_path / "offer", age=-timedelta(days=1)), tmp_path / "cache")


def test_a_newer_database_in_the_directory_replaces_the_old_at_once(tmp_path: Path) -> None:
    source = offer(tmp_path / "offer", age=2 * HOUR)
    first = fetch(source, tmp_path / "cache")
    offer(tmp_path / "offer", age=HOUR, trivy_db=bolt.write({b"vulnerability": {b"new": b"{}"}}))
    second = fetch(source, tmp_path / "cache")
    assert second.digest != first.digest
    assert in_place(tmp_path / "cache").identity == second


def test_a_scan_keeps_the_database_it_began_with(tmp_path: Path) -> None:
    source = offer(tmp_path / "offer", age=3 * HOUR)
    fetch(source, tmp_path / "cache")
    held = in_place(tmp_path / "cache")
    offer(tmp_path / "offer", age=2 * HOUR)
    fetch(source, tmp_path / "cache")
    assert (held.directory / "db" / "trivy.db").is_file()
    offer(tmp_path / "offer", age=HOUR)
    fetch(source, tmp_path / "cache")
    kept = [
        entry for entry in (tmp_path / "cache" / "databases").iterdir() if entry.is_dir() and not entry.is_symlink()
    ]
    assert len(kept) == 2


def test_an_older_database_than_the_one_in_place_is_not_taken(tmp_path: Path) -> None:
    source = offer(tmp_path / "offer", age=HOUR)
    first = fetch(source, tmp_path / "cache")
    offer(tmp_path / "offer", age=20 * HOUR)
    assert fetch(source, tmp_path / "cache") == first


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:4096],
        lambda data: b"",
        lambda data: os.urandom(len(data)),
        lambda data: bytes(8192) + data[8192:],
    ],
    ids=["a byte short", "one page", "empty", "random", "no meta pages"],
)
def test_a_damaged_database_is_refused_and_the_old_one_stays(tmp_path: Path, damage: object) -> None:
    source = offer(tmp_path / "offer", age=2 * HOUR)
    first = fetch(source, tmp_path / "cache")
    whole = (tmp_path / "offer" / "trivy.db").read_bytes()
    damaged = damage(whole)  # type: ignore[operator]
    offer(tmp_path / "offer", age=HOUR, trivy_db=damaged)
    assert fetch(source, tmp_path / "cache") == first
    with pytest.raises(DatabaseCorrupt):
        fetch(source, tmp_path / "empty-cache")


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"[]",
        b'{"Version": 2}',
        b'{"Version": 3, "UpdatedAt": "2026-01-01T00:00:00Z", "NextUpdate": "2026-01-01T00:00:00Z"}',
    ],
)
def test_metadata_of_another_form_is_refused(tmp_path: Path, metadata: bytes) -> None:
    source = offer(tmp_path / "offer")
    (tmp_path / "offer" / "metadata.json").write_bytes(metadata)
    with pytest.raises(DatabaseCorrupt, match=r"metadata\.json"):
        fetch(source, tmp_path / "cache")


def test_a_database_changed_in_place_is_noticed_and_fetched_again(tmp_path: Path) -> None:
    source = offer(tmp_path / "offer")
    identity = fetch(source, tmp_path / "cache")
    file = in_place(tmp_path / "cache").directory / "db" / "trivy.db"
    file.write_bytes(bolt.write({b"vulnerability": {b"forged": b"{}"}}))
    with pytest.raises(DatabaseCorrupt, match="changed after it was put in place"):
        in_place(tmp_path / "cache")
    assert fetch(source, tmp_path / "cache").digest == identity.digest
    assert in_place(tmp_path / "cache")


def test_a_touched_database_is_hashed_again_and_found_whole(tmp_path: Path) -> None:
    fetch(offer(tmp_path / "offer"), tmp_path / "cache")
    os.utime(in_place(tmp_path / "cache").directory / "db" / "trivy.db", (1, 1))
    assert in_place(tmp_path / "cache")


def test_a_garbled_record_is_noticed(tmp_path: Path) -> None:
    fetch(offer(tmp_path / "offer"), tmp_path / "cache")
    (in_place(tmp_path / "cache").directory / "record.json").write_text("{")
    with pytest.raises(DatabaseCorrupt, match="cannot be read"):
        in_place(tmp_path / "cache")


def test_a_database_of_another_source_does_not_count(tmp_path: Path) -> None:
    fetch(offer(tmp_path / "sample"), tmp_path / "cache")
    with pytest.raises(DatabaseMissing, match=r"has no trivy\.db"):
        fetch(DirectorySource(tmp_path / "elsewhere"), tmp_path / "cache")


def test_what_a_dead_process_left_half_fetched_is_swept(tmp_path: Path) -> None:
    leftover = tmp_path / "cache" / "databases" / "incoming-dead"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"x" * 100)
    fetch(offer(tmp_path / "offer"), tmp_path / "cache")
    assert not leftover.exists()


def test_eight_at_once_put_one_database_in_place(tmp_path: Path) -> None:
    source = offer(tmp_path / "offer")
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: fetch(source, tmp_path / "cache").model_dump_json(), range(8)))
    assert len(found) == 1
    entries = (tmp_path / "cache" / "databases").iterdir()
    assert sum(entry.is_dir() and not entry.is_symlink() for entry in entries) == 1


def test_a_file_that_offers_what_was_refused_is_not_copied_for_every_scan(tmp_path: Path) -> None:
    source = offer(tmp_path / "offer", age=HOUR)
    fetch(source, tmp_path / "cache")
    offer(tmp_path / "offer", age=20 * HOUR)
    fetch(source, tmp_path / "cache")
    attempted = (tmp_path / "cache" / "databases" / "attempted").stat().st_mtime_ns
    fetch(source, tmp_path / "cache")
    assert (tmp_path / "cache" / "databases" / "attempted").stat().st_mtime_ns == attempted


def test_an_archive_is_a_source_and_a_newer_one_replaces_it(tmp_path: Path) -> None:
    source = ArchiveSource(tmp_path / "db.tar.gz")
    identities = []
    for age in (3 * HOUR, HOUR):
        offer(tmp_path / "offer", age=age)
        pack(tmp_path / "offer", source.path, datetime.now(UTC))
        identities.append(ensure(NO_TRIVY, source, tmp_path / "cache", maximum_age=TWO_DAYS, timeout=10))
    assert identities[0].updated_at < identities[1].updated_at
    assert in_place(tmp_path / "cache").identity == identities[1]
    assert identities[1].source == f"archive:{tmp_path / 'db.tar.gz'}"


def test_what_was_imported_is_used_and_nothing_is_fetched(tmp_path: Path) -> None:
    def wanted() -> DatabaseIdentity:
        return ensure(NO_TRIVY, ImportedSource(), tmp_path / "cache", maximum_age=TWO_DAYS, timeout=10)

    with pytest.raises(DatabaseMissing, match="has been imported"):
        wanted()
    brought = offer(tmp_path / "brought")
    identity = take_in(brought, tmp_path / "cache", maximum_age=TWO_DAYS, allow_stale=False)
    assert wanted() == identity
    with pytest.raises(DatabaseStale, match="older than the one in place"):
        take_in(offer(tmp_path / "older", age=9 * HOUR), tmp_path / "cache", maximum_age=TWO_DAYS, allow_stale=False)
    assert wanted() == identity


def test_a_setting_names_its_source() -> None:
    assert database_source("imported") == ImportedSource()
    assert database_source("/srv/db.tar.gz") == ArchiveSource(Path("/srv/db.tar.gz"))
    assert database_source(None) == DefaultSource()
    assert database_source("/srv/trivy") == DirectorySource(Path("/srv/trivy"))
    assert database_source("./trivy") == DirectorySource(Path("trivy"))
    mirror = database_source("registry.example:5000/trivy-db:2", insecure=True)
    assert mirror == MirrorSource("registry.example:5000/trivy-db:2", insecure=True)
    assert str(mirror) == "oci:registry.example:5000/trivy-db:2"


def test_a_password_is_not_shown_and_one_that_trivy_would_split_is_refused() -> None:
    source = MirrorSource("registry.example/db", credentials=Credentials("me", "open-sesame"))
    assert "open-sesame" not in repr(source) + str(source)
    for password in ("open,sesame", "open sesame", "open\tsesame"):
        with pytest.raises(ScannerUnusable, match="comma or a blank") as caught:
            Credentials("me", password).environment()
        assert password not in str(caught.value)


def test_the_java_index_is_one_trivy_knows(tmp_path: Path) -> None:
    fetch(offer(tmp_path / "offer"), tmp_path / "cache")
    metadata = json.loads((in_place(tmp_path / "cache").directory / "java-db" / "metadata.json").read_text())
    assert metadata["Version"] == 1
