"""The sample database: real advisories, the same bytes each time, and honest about itself."""

import gzip
import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
import yaml

from builder.scanning.artifact import database_artifact
from builder.scanning.sample import bolt
from builder.scanning.sample.build import SOURCE_NAME, build_sample

MADE = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
ADVISORIES = yaml.safe_load(files("builder.scanning.sample").joinpath("advisories.yaml").read_text())["vulnerabilities"]


def test_the_same_dates_give_the_same_bytes() -> None:
    assert build_sample(MADE, MADE + timedelta(days=1)) == build_sample(MADE, MADE + timedelta(days=1))


def test_other_dates_leave_the_database_itself_alone() -> None:
    later = build_sample(MADE + timedelta(days=9), MADE + timedelta(days=10))
    assert later.trivy_db == build_sample(MADE, MADE + timedelta(days=1)).trivy_db
    assert json.loads(later.metadata)["UpdatedAt"] == "2026-11-10T12:30:00Z"


def test_it_says_of_itself_that_it_is_a_sample() -> None:
    sample = build_sample(MADE, MADE + timedelta(days=1))
    assert b"goldsmith-sample-database" in sample.trivy_db
    assert SOURCE_NAME.encode() in sample.trivy_db
    assert bolt.size_promised_by(sample.trivy_db) == len(sample.trivy_db)


def test_the_archive_holds_both_files() -> None:
    sample = build_sample(MADE, MADE + timedelta(days=1))
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(sample.archive))) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert contents == {"trivy.db": sample.trivy_db, "metadata.json": sample.metadata}


def test_the_artifact_names_its_blobs_by_their_digests() -> None:
    artifact = database_artifact(b"archive")
    manifest = json.loads(artifact.manifest)
    assert [manifest["config"]["digest"], manifest["layers"][0]["digest"]] == list(artifact.blobs)
    for digest, blob in artifact.blobs.items():
        assert digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert manifest["layers"][0]["mediaType"] == "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"


def test_each_advisory_is_there_once() -> None:
    places = [(entry["id"], p["platform"], p["name"]) for entry in ADVISORIES for p in entry["packages"]]
    assert len(places) == len(set(places)) > 80


@pytest.mark.parametrize("platform", ["debian 12", "debian 13", "pip"])
def test_there_are_advisories_for(platform: str) -> None:
    assert sum(p["platform"] == platform for entry in ADVISORIES for p in entry["packages"]) > 5
