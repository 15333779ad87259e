"""Rebuilt and released are compared as they lie on disk: what matched is said exactly, and what differs by path."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement as OfficialStatement

from builder import __version__
from builder.image import layer
from builder.image.canonical import canonicalise
from builder.image.documents import Manifest
from builder.image.layer import Compression
from builder.pipeline.composing import Composed, compose
from builder.pipeline.evidence import DifferingPath, RebuildEvidence
from builder.pipeline.provenance import provenance
from builder.pipeline.reproduction import compared, outcome, statement, told
from builder.pipeline.signed import SignedRecord
from builder.recipes.model import Recipe
from builder.recipes.reading import recipe_from_data
from builder.signing.statement import REPRODUCTION
from builder.store.schema import Build
from tests.unit.evidence import digest, lock, rebuild_evidence, whole_evidence

STATUS = b"""Package: hello
Status: install ok installed
Version: 2.10-3
Architecture: amd64
Conffiles:

"""
FILES = {
    "etc/motd": b"welcome\n",
    "usr/bin/hello": b"\x7fELF" + bytes(range(256)) * 40,
    "var/lib/dpkg/status": STATUS,
    "var/lib/dpkg/info/hello.list": b"/.\n/usr\n/usr/bin\n/usr/bin/hello\n",
}


def recipe(**spec: Any) -> Recipe:
    whole = {"base": {"debian": {"suite": "trixie"}}, "publish": {"repository": "golden/web"}, **spec}
    return recipe_from_data({"apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "web"}, "spec": whole})


def image(
    directory: Path,
    files: dict[str, bytes],
    *,
    modes: dict[str, int] | None = None,
    links: dict[str, str] | None = None,
    made_by: Recipe | None = None,
) -> Composed:
    """A whole image on disk, from a tar of these files."""
    directory.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size, header.mode = len(content), (modes or {}).get(name, 0o644)
            tar.addfile(header, io.BytesIO(content))
        for name, target in (links or {}).items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, target
            tar.addfile(header)
    buffer.seek(0)
    with canonicalise(buffer, spool_dir=directory, epoch=1_700_000_000) as tree:
        return compose(made_by or recipe(), tree, None, "amd64", directory)


@dataclass(frozen=True)
class Released:
    """An image as it was released: its manifest, and its inventory on disk."""

    digest: str
    manifest: Manifest
    inventory: Path
    compression: Compression


def released(directory: Path, files: dict[str, bytes], **how: Any) -> Released:
    made = image(directory, files, **how)
    assert made.layer is not None
    return Released(made.manifest_digest, made.manifest, made.inventory.path, made.layer.compression)


def compare(rebuilt: Composed, golden: Released) -> RebuildEvidence:
    return compared(rebuilt, golden.digest, golden.manifest, golden.inventory, golden.compression, diff_ids=True)


@pytest.fixture
def golden(tmp_path: Path) -> Released:
    return released(tmp_path / "golden", FILES)


class TestTheSameAgain:
    def test_is_bit_for_bit(self, golden: Released, tmp_path: Path) -> None:
        found = compare(image(tmp_path / "again", dict(reversed(FILES.items()))), golden)
        assert found.reproduced
        assert (found.matched.manifest, found.matched.config, found.matched.inventory) == (True, True, True)
        assert found.rebuilt_digest == found.image_digest == golden.digest
        assert (found.differences, found.differences_total) == ((), 0)
        assert found.paths >= len(FILES)
        assert outcome(found) == f"bit for bit: {golden.digest}"
        assert told(found, 10) == []


class TestAnotherLibrary:
    """The same content, which another version of the compression library writes otherwise."""

    @pytest.fixture
    def found(self, golden: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RebuildEvidence:
        monkeypatch.setattr(layer, "_BLOCK", 4096)
        rebuilt = image(tmp_path / "again", FILES)
        assert rebuilt.layer is not None
        now = rebuilt.layer.compression.model_copy(update={"version": "99.0"})
        return compare(replace(rebuilt, layer=replace(rebuilt.layer, compression=now)), golden)

    def test_matches_in_config_and_content_and_not_in_the_manifest(self, found: RebuildEvidence) -> None:
        assert (found.matched.manifest, found.matched.config, found.matched.inventory) == (False, True, True)
        assert found.reproduced
        assert found.rebuilt_digest != found.image_digest
        assert found.differences_total == 0

    def test_is_told_with_both_libraries(self, found: RebuildEvidence) -> None:
        assert outcome(found) == (
            "config and diff IDs match, the manifest does not: "
            f"compressed by isal {Compression().version} then, by isal 99.0 now"
        )
        unknown = found.model_copy(update={"compression_then": None})
        assert outcome(unknown) == "config and diff IDs match, the manifest does not: compressed otherwise"


class TestAnotherTree:
    def differing(self, found: RebuildEvidence) -> dict[str, DifferingPath]:
        assert not found.reproduced
        assert not any((found.matched.manifest, found.matched.config, found.matched.inventory))
        assert outcome(found) == f"{found.differences_total} paths differ"
        assert len(found.differences) == found.differences_total
        return {one.path: one for one in found.differences}

    def test_is_told_by_path_with_both_contents_and_the_package(self, golden: Released, tmp_path: Path) -> None:
        changed = {**FILES, "usr/bin/hello": FILES["usr/bin/hello"] + b"!"}
        found = compare(image(tmp_path / "again", changed), golden)
        one = self.differing(found)["/usr/bin/hello"]
        assert (one.kinds, one.package) == (("content",), "hello 2.10-3")
        assert one.golden
        assert one.rebuilt
        assert one.golden != one.rebuilt
        assert told(found, 10) == ["content: /usr/bin/hello"]

    def test_says_of_a_file_of_nobody_that_no_package_brought_it(self, golden: Released, tmp_path: Path) -> None:
        found = compare(image(tmp_path / "again", {**FILES, "etc/motd": b"welcome!\n"}), golden)
        assert self.differing(found)["/etc/motd"].package is None

    def test_tells_what_is_new_and_what_is_gone(self, golden: Released, tmp_path: Path) -> None:
        files = {name: content for name, content in FILES.items() if name != "etc/motd"}
        found = compare(image(tmp_path / "again", {**files, "etc/issue": b"x"}), golden)
        paths = self.differing(found)
        assert (paths["/etc/issue"].kinds, paths["/etc/issue"].golden) == (("added",), None)
        assert (paths["/etc/motd"].kinds, paths["/etc/motd"].rebuilt) == (("removed",), None)

    def test_tells_another_mode(self, golden: Released, tmp_path: Path) -> None:
        found = compare(image(tmp_path / "again", FILES, modes={"usr/bin/hello": 0o4755}), golden)
        assert self.differing(found)["/usr/bin/hello"].kinds == ("mode",)

    def test_excuses_nothing_that_is_to_be_expected_of_a_container(self, tmp_path: Path) -> None:
        golden = released(tmp_path / "golden", FILES, links={"etc/mtab": "../proc/self/mounts"})
        found = compare(image(tmp_path / "again", FILES, links={"etc/mtab": "/proc/mounts"}), golden)
        assert self.differing(found)["/etc/mtab"].kinds == ("removed",)  # what engines write is no part of an image

    def test_of_thousands_of_paths_counts_all_and_keeps_the_first(self, golden: Released, tmp_path: Path) -> None:
        found = compare(image(tmp_path / "again", {**FILES, **{f"opt/{n:04}": b"" for n in range(1500)}}), golden)
        assert found.differences_total == 1501  # with /opt itself
        assert len(found.differences) == 1000
        assert told(found, 3)[-1] == "… and 1498 more"
        assert len(told(found, 3)) == 4


class TestAnotherConfig:
    def test_is_told_as_such_where_every_file_is_the_same(self, golden: Released, tmp_path: Path) -> None:
        found = compare(image(tmp_path / "again", FILES, made_by=recipe(environment={"A": "b"})), golden)
        assert (found.matched.manifest, found.matched.config, found.matched.inventory) == (False, False, True)
        assert not found.reproduced
        assert outcome(found) == "every file matches, but the image's config does not"


class TestTheStatement:
    RECORD = SignedRecord(
        recipe=recipe(),
        provenance=provenance(
            Build(id="0" * 26, recipe="{}", recipe_digest=digest("1"), requester="ci", attempt=1, options={},
                  evidence=whole_evidence()),
            [], "https://goldsmith.example/builder", digest("f"),
        ),
        bundle_digest=digest("2"),
        lock_digest=lock().digest,
        materials_digest=digest("7"),
        inventory_digest=digest("5"),
        identity="https://sandbox.invalid/release",
    )  # fmt: skip

    def made(self, evidence: RebuildEvidence) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            statement(
                evidence, self.RECORD, "registry.example/golden/web", builder_id="https://other.example/rebuilder",
                engine="docker 20.10", architecture="amd64", started=datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC),
            ).canonical()
        )  # fmt: skip
        return found

    def test_is_one_that_the_official_model_reads(self) -> None:
        text = json.dumps(self.made(rebuild_evidence()))
        official = OfficialStatement.copy_from_pb(json_format.Parse(text, statement_pb2.Statement()))
        official.validate()
        assert official.pb.predicate_type == REPRODUCTION
        assert official.pb.subject[0].name == "registry.example/golden/web"
        assert official.pb.subject[0].digest["sha256"] == "a" * 64

    def test_says_what_matched_from_which_record_and_who_rebuilt(self) -> None:
        predicate = self.made(rebuild_evidence())["predicate"]
        assert predicate["matched"] == {"manifest": True, "config": True, "diffIds": True, "inventory": True}
        assert predicate["rebuiltDigest"] == {"sha256": "a" * 64}
        assert predicate["record"] == {
            "provenance": {"sha256": "2" * 64},
            "lock": {"sha256": lock().digest.removeprefix("sha256:")},
            "materials": {"sha256": "7" * 64},
            "builderId": "https://goldsmith.example/builder",
            "signer": "https://sandbox.invalid/release",
        }
        assert predicate["rebuilder"] == {
            "id": "https://other.example/rebuilder",
            "version": {"goldsmith": __version__},
            "engine": "docker 20.10",
            "architecture": "amd64",
        }
        assert (predicate["offline"], predicate["materialsFrom"]) == (True, {"the registry": 2})
        assert predicate["startedOn"] == "2026-11-23T12:00:01Z"
        assert datetime.fromisoformat(predicate["finishedOn"]) >= datetime(2026, 1, 1, tzinfo=UTC)

    def test_says_by_which_library_both_were_compressed(self) -> None:
        compression = self.made(rebuild_evidence())["predicate"]["compression"]
        assert compression["original"] == compression["rebuilt"] == Compression().model_dump(mode="json")
        unknown = rebuild_evidence().model_copy(update={"compression_then": None})
        assert self.made(unknown)["predicate"]["compression"]["original"] is None
