"""The image's documents follow from recipe, tree and base alone; what the recipe says goes over what the base says."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.image.canonical import canonicalise
from builder.image.digests import digest_of, digest_of_file
from builder.image.documents import History, ImageConfig, Manifest, Runtime, parse_config, parse_manifest
from builder.image.inventory import open_inventory
from builder.image.tree import Tree
from builder.pipeline.base import Base
from builder.pipeline.composing import Composed, compose
from builder.recipes.model import Recipe
from builder.recipes.reading import recipe_from_data
from builder.registry.reference import Repository

EPOCH = 1_700_000_000
STATUS = b"""Package: hello
Status: install ok installed
Version: 1
Architecture: amd64

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: amd64
"""


def recipe(metadata: dict[str, Any] | None = None, **spec: Any) -> Recipe:
    return recipe_from_data(
        {
            "apiVersion": "goldsmith/v1",
            "kind": "Image",
            "metadata": {"name": "web", **(metadata or {})},
            "spec": {"base": {"recipe": "debian"}, "publish": {"repository": "golden/web"}, **spec},
        }
    )


@contextmanager
def tree(directory: Path, files: dict[str, bytes]) -> Iterator[Tree]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    buffer.seek(0)
    with canonicalise(buffer, spool_dir=directory, epoch=EPOCH) as made:
        yield made


def composed(directory: Path, wanted: Recipe, files: dict[str, bytes], base: Base | None = None) -> Composed:
    directory.mkdir(exist_ok=True)
    with tree(directory, files) as made:
        return compose(wanted, made, base, "amd64", directory)


def config_of(image: Composed) -> ImageConfig:
    content = image.blobs[image.manifest.config.digest]
    assert isinstance(content, bytes)
    return parse_config(content)


def base_of(directory: Path, image: Composed, *, foreign: bool = False, **changes: Any) -> Base:
    config = config_of(image).model_copy(update=changes)
    repository = Repository("127.0.0.1:5000", "golden/debian")
    with open_inventory(image.inventory.path) as (_, records):
        entries = tuple(record.entry for record in records)
    digest = image.manifest_digest
    origin = str(repository.at(digest)) if foreign else None
    return Base(repository, digest, image.manifest, config, entries, origin)


ROOT = {"etc/motd": b"hello\n", "var/lib/dpkg/status": STATUS}


@pytest.fixture
def bottom(tmp_path: Path) -> Composed:
    return composed(tmp_path / "bottom", recipe({"name": "debian"}), ROOT)


class TestBottom:
    def test_is_one_layer_whose_blobs_are_all_there(self, bottom: Composed) -> None:
        assert bottom.layer is not None
        assert [layer.digest for layer in bottom.manifest.layers] == [bottom.layer.digest]
        assert digest_of_file(bottom.layer.path) == bottom.layer.digest
        assert set(bottom.blobs) == {bottom.layer.digest, bottom.manifest.config.digest}
        assert config_of(bottom).rootfs.diff_ids == bottom.diff_ids == (bottom.layer.diff_id,)
        assert digest_of(bottom.manifest.to_bytes()) == bottom.manifest_digest
        assert parse_manifest(bottom.manifest.to_bytes()) == bottom.manifest

    def test_counts_the_packages_that_are_installed(self, bottom: Composed) -> None:
        assert bottom.packages == 1

    def test_without_packages_has_none(self, tmp_path: Path) -> None:
        assert composed(tmp_path / "x", recipe(), {"a": b""}).packages == 0

    def test_names_its_user_and_its_path_even_where_the_recipe_does_not(self, bottom: Composed) -> None:
        runtime = config_of(bottom).config
        assert runtime.user == "0:0"
        assert runtime.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)

    def test_is_the_same_image_from_the_same_things(self, bottom: Composed, tmp_path: Path) -> None:
        again = composed(tmp_path / "again", recipe({"name": "debian"}), dict(reversed(ROOT.items())))
        assert again.manifest_digest == bottom.manifest_digest
        assert again.inventory.digest == bottom.inventory.digest

    def test_is_another_image_for_each_thing_that_is_said(self, bottom: Composed, tmp_path: Path) -> None:
        changes: list[Recipe] = [
            recipe({"name": "debian"}, user="1"), recipe({"name": "debian"}, environment={"A": "b"}),
            recipe({"name": "debian"}, ports=["80"]), recipe({"name": "debian"}, labels={"a": "b"}),
            recipe({"name": "debian"}, command=["a"]), recipe({"name": "debian", "version": "2"}),
        ]  # fmt: skip
        found = {composed(tmp_path / str(n), one, ROOT).manifest_digest for n, one in enumerate(changes)}
        assert len(found | {bottom.manifest_digest}) == len(changes) + 1

    def test_carries_the_standard_annotations_and_no_place(self, tmp_path: Path) -> None:
        metadata = {"description": "d", "version": "1", "source": "https://example.org/x", "licenses": "MIT"}
        image = composed(tmp_path / "x", recipe(metadata), ROOT)
        assert image.manifest.annotations == {
            "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
            "org.opencontainers.image.title": "web",
            "org.opencontainers.image.description": "d",
            "org.opencontainers.image.version": "1",
            "org.opencontainers.image.source": "https://example.org/x",
            "org.opencontainers.image.licenses": "MIT",
        }
        assert config_of(image).config.labels == image.manifest.annotations
        assert config_of(image).created == "2023-11-14T22:13:20Z"


class TestChild:
    def test_has_its_bases_layers_and_one_of_its_own(self, bottom: Composed, tmp_path: Path) -> None:
        base = base_of(tmp_path, bottom)
        child = composed(tmp_path / "child", recipe(), {**ROOT, "etc/new": b"1"}, base)
        assert child.layer is not None
        assert child.manifest.layers[:-1] == bottom.manifest.layers
        assert child.diff_ids == (*bottom.diff_ids, child.layer.diff_id)
        assert child.layer.size < 1024, "what the base has is not in it"
        assert [entry.empty_layer for entry in config_of(child).history or ()] == [None, None]

    def test_that_changes_nothing_adds_no_layer(self, bottom: Composed, tmp_path: Path) -> None:
        child = composed(tmp_path / "child", recipe(user="1"), ROOT, base_of(tmp_path, bottom))
        assert child.layer is None
        assert child.manifest.layers == bottom.manifest.layers
        assert set(child.blobs) == {child.manifest.config.digest}
        assert [entry.empty_layer for entry in config_of(child).history or ()] == [None, True]

    def test_has_an_inventory_of_the_whole_image(self, bottom: Composed, tmp_path: Path) -> None:
        child = composed(tmp_path / "child", recipe(), {**ROOT, "etc/new": b"1"}, base_of(tmp_path, bottom))
        with open_inventory(child.inventory.path) as (_, records):
            assert {b"etc/motd", b"etc/new"} <= {record.entry.path for record in records}

    def test_names_its_base_by_digest_and_by_place_only_when_that_is_somebody_elses(
        self, bottom: Composed, tmp_path: Path
    ) -> None:
        prefix = "org.opencontainers.image.base."
        own = composed(tmp_path / "own", recipe(), ROOT, base_of(tmp_path, bottom)).manifest.annotations or {}
        foreign = base_of(tmp_path, bottom, foreign=True)
        other = composed(tmp_path / "other", recipe(), ROOT, foreign).manifest.annotations or {}
        assert own[prefix + "digest"] == other[prefix + "digest"] == bottom.manifest_digest
        assert prefix + "name" not in own
        assert other[prefix + "name"] == foreign.reference

    def test_of_an_image_without_history_has_none(self, bottom: Composed, tmp_path: Path) -> None:
        base = base_of(tmp_path, bottom, history=None)
        assert config_of(composed(tmp_path / "child", recipe(), ROOT, base)).history is None

    def test_keeps_an_older_history_before_its_own(self, bottom: Composed, tmp_path: Path) -> None:
        base = base_of(tmp_path, bottom, history=(History(created_by="somebody"),))
        history = config_of(composed(tmp_path / "child", recipe(), ROOT, base)).history or ()
        assert [entry.created_by for entry in history] == ["somebody", "goldsmith web"]


class TestRuntime:
    BASE = Runtime(
        user="7", env=("A=1", "B=2", "C"), entrypoint=("/e",), cmd=("c",), working_dir="/w", stop_signal="SIGINT",
        exposed_ports={"80/tcp": {}}, volumes={"/v": {}},
        labels={"own": "x", "org.opencontainers.image.title": "base"},
    )  # fmt: skip

    def of(self, bottom: Composed, tmp_path: Path, **spec: Any) -> Runtime:
        base = base_of(tmp_path, bottom, config=self.BASE)
        return config_of(composed(tmp_path / "child", recipe(**spec), ROOT, base)).config

    def test_is_the_bases_where_the_recipe_says_nothing(self, bottom: Composed, tmp_path: Path) -> None:
        runtime = self.of(bottom, tmp_path)
        for name in ("user", "entrypoint", "cmd", "working_dir", "stop_signal", "exposed_ports", "volumes"):
            assert getattr(runtime, name) == getattr(self.BASE, name)
        assert (runtime.labels or {})["own"] == "x"

    def test_is_the_recipes_where_it_says_something(self, bottom: Composed, tmp_path: Path) -> None:
        runtime = self.of(
            bottom, tmp_path, user="1:2", command=["d"], workingDirectory="/x", stopSignal="SIGTERM",
            environment={"B": "3", "D": "a=b"}, ports=["53/udp", "8080"], labels={"own": "y"},
        )  # fmt: skip
        assert (runtime.user, runtime.cmd, runtime.working_dir) == ("1:2", ("d",), "/x")
        assert runtime.stop_signal == "SIGTERM"
        assert set(runtime.env or ()) == {"A=1", "B=3", "C=", "D=a=b"}
        assert runtime.exposed_ports == {"80/tcp": {}, "53/udp": {}, "8080/tcp": {}}
        assert (runtime.labels or {})["own"] == "y"

    def test_a_new_entrypoint_takes_the_bases_command_away(self, bottom: Composed, tmp_path: Path) -> None:
        runtime = self.of(bottom, tmp_path, entrypoint=["/new"])
        assert (runtime.entrypoint, runtime.cmd) == (("/new",), None)

    def test_what_the_base_said_of_itself_is_not_said_of_the_child(self, bottom: Composed, tmp_path: Path) -> None:
        assert (self.of(bottom, tmp_path).labels or {})["org.opencontainers.image.title"] == "web"


def test_a_manifest_is_written_in_one_way(bottom: Composed) -> None:
    assert isinstance(bottom.manifest, Manifest)
    assert bottom.manifest.to_bytes() == parse_manifest(bottom.manifest.to_bytes()).to_bytes()
