"""The vulnerability database, from a registry by the real Trivy, and a scan without a good one."""

import dataclasses
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from builder.scanning.artifact import database_artifact
from builder.scanning.binary import Credentials, Trivy
from builder.scanning.database import ensure
from builder.scanning.errors import (
    DatabaseCorrupt,
    DatabaseMissing,
    DatabaseStale,
)
from builder.scanning.sources import MirrorSource
from tests.integration.scanning_server import (
    BOOKWORM,
    CLEAN,
    DAY,
    TRIVY,
    Registry,
    install,
    push,
    registry,
    sample,
    scanner,
)

PASSWORD = "open-sesame"
HASH = "$2b$04$4UrFtgBpQzTo1kkNkCDq6e9GorjbsleqJl2KzwFY8T5qjsxlweMiq"  # bcrypt of it


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


class TestDatabase:
    def test_without_a_database_there_is_no_result(self, staging: Registry, tmp_path: Path) -> None:
        with pytest.raises(DatabaseMissing):
            scanner(tmp_path).scan(staging.push("staging/clean", CLEAN))

    def test_with_an_old_database_there_is_no_result(self, staging: Registry, tmp_path: Path) -> None:
        install(tmp_path / "cache", maximum_age=9 * DAY, age=3 * DAY)
        with pytest.raises(DatabaseStale, match="72 hours old"):
            scanner(tmp_path / "cache").scan(staging.push("staging/clean", CLEAN))

    def test_with_a_damaged_database_there_is_no_result(self, staging: Registry, tmp_path: Path) -> None:
        install(tmp_path / "cache")
        (file,) = (tmp_path / "cache" / "databases").glob("*-*/db/trivy.db")
        file.write_bytes(file.read_bytes()[:20000])
        with pytest.raises(DatabaseCorrupt):
            scanner(tmp_path / "cache").scan(staging.push("staging/clean", CLEAN))

    def test_a_mirror_in_a_registry_is_pulled_by_trivy_and_known_as_the_sample(
        self, staging: Registry, tmp_path: Path
    ) -> None:
        database = sample()
        push(staging, "mirror/trivy-db", database_artifact(database.archive))
        source = MirrorSource(f"{staging.host}/mirror/trivy-db")
        identity = ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60)
        assert identity.sample
        assert identity.source == f"oci:{staging.host}/mirror/trivy-db"
        assert (identity.next_update - identity.updated_at) == DAY
        result = scanner(tmp_path / "cache").scan(staging.push("staging/bookworm", BOOKWORM))
        assert result.database == identity
        assert "CVE-2023-5363" in {found.id for found in result.findings.vulnerabilities}

    def test_a_mirror_behind_a_login(self, tmp_path: Path) -> None:
        with registry(tmp_path / "registry", htpasswd=f"robot:{HASH}\n", login=("robot", PASSWORD)) as guarded:
            push(guarded, "trivy-db", database_artifact(sample().archive))
            open_source = MirrorSource(f"{guarded.host}/trivy-db")
            source = dataclasses.replace(open_source, credentials=Credentials("robot", PASSWORD))
            with pytest.raises(DatabaseMissing, match="UNAUTHORIZED"):
                ensure(Trivy(TRIVY), open_source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60)
            assert ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60).sample

    def test_a_mirror_that_is_down_leaves_the_old_database_until_its_age_ends_it(self, tmp_path: Path) -> None:
        with registry(tmp_path / "registry") as mirror:
            push(mirror, "trivy-db", database_artifact(sample(timedelta(hours=30)).archive))
            source = MirrorSource(f"{mirror.host}/trivy-db")
            first = ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60)
        attempted = tmp_path / "cache" / "databases" / "attempted"
        os.utime(attempted, (1, 1))  # as if the last attempt lay long back, so that the next call tries again
        assert ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=2 * DAY, timeout=60) == first
        assert attempted.stat().st_mtime > 1, "a fetch was tried"
        with pytest.raises(DatabaseStale, match=r"30 hours old.*connection refused"):
            ensure(Trivy(TRIVY), source, tmp_path / "cache", maximum_age=DAY, timeout=60)

    def test_a_mirror_with_something_else_is_no_database(self, staging: Registry, tmp_path: Path) -> None:
        push(staging, "mirror/wrong", database_artifact(b"not an archive"))
        with pytest.raises(DatabaseMissing, match="could be fetched") as caught:
            ensure(
                Trivy(TRIVY),
                MirrorSource(f"{staging.host}/mirror/wrong"),
                tmp_path,
                maximum_age=2 * DAY,
                timeout=60,
            )
        assert "GOLDSMITH_TRIVY_DATABASE" in (caught.value.hint or "")
