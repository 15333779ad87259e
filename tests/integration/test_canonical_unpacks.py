"""What the canonical form says of a tree, GNU tar, umoci and Docker unpack: each tree is generated, none is of ours."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from builder.engine.container import stream_of
from builder.image.canonical import canonicalise
from builder.image.changes import diff
from builder.image.digests import digest_of
from builder.image.documents import CONFIG, Descriptor, ImageConfig, Manifest, RootFS
from builder.image.entry import Entry, EntryType
from builder.image.flatten import flatten
from builder.image.layer import Layer as Written
from builder.image.layer import write_layer
from builder.image.layout import write_layout
from builder.image.tarwriter import tar_stream
from builder.process import run
from tests.integration.trees_on_disk import build, walk
from tests.unit.trees import DIALECTS, Dialect, Layer, Tree, archive_of, entries_of, stacks, trees

EPOCH = 1_700_000_000
RANDOM = st.randoms(use_true_random=False)
# Engines take no old sparse files; ours, and GNU tar, do.
KNOWN = DIALECTS.filter(lambda dialect: dialect.sparse != "gnu")
ENGINE_DIRECTORIES = {b"dev", b"etc", b"proc", b"sys"}


def examples(number: int) -> settings:
    """As many, and what fails is shown as it was found: to make it smaller would take an engine minutes."""
    slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    return settings(max_examples=number, suppress_health_check=slow, deadline=None, phases=phases)


@pytest.fixture(scope="module")
def client(docker_engine: str) -> Iterator[docker.DockerClient]:
    found = docker.DockerClient(base_url=docker_engine)
    yield found
    found.close()


# GNU tar

PACKING = [
    ["--format=posix", "--xattrs", "--xattrs-include=*"],
    *(["--format=posix", "--xattrs", "--xattrs-include=*", "--sparse", f"--sparse-version={version}"]
      for version in ("0.0", "0.1", "1.0")),
    ["--format=gnu"],
    ["--format=gnu", "--sparse"],
]  # fmt: skip


@examples(30)
@given(tree=trees(), options=st.sampled_from(PACKING), choose=RANDOM)
def test_what_gnu_tar_packs_is_what_it_unpacks_from_the_canonical_form(
    tmp_path: Path, tree: Tree, options: list[str], choose: random.Random
) -> None:
    tree = as_packed(tree, options)
    expected = entries_of(tree)
    with tempfile.TemporaryDirectory(dir=tmp_path) as work:
        packed, unpacked = Path(work, "packed"), Path(work, "unpacked")
        packed.mkdir()
        unpacked.mkdir()
        build(tree, packed)
        assert walk(packed) == expected
        names = [b"./" + entry.path for entry in expected]
        listed = b"".join(name + b"\0" for name in choose.sample(names, len(names)))
        tar = ["tar", "--create", "-C", packed, "--no-recursion", "--null", "--verbatim-files-from", "--files-from=-"]
        stream = run([*tar, *options], stdin=listed, timeout=60).stdout
        with canonicalise(io.BytesIO(stream), spool_dir=tmp_path, epoch=EPOCH) as made:
            assert made.entries == expected
            layer = made.write_layer(Path(work, "layer.tar.gz"))
        extract = ["tar", "--extract", "--gzip", "--file", layer.path, "-C", unpacked, "--same-permissions"]
        run([*extract, "--numeric-owner", "--xattrs", "--xattrs-include=*"], timeout=60)
        assert walk(unpacked) == expected
        assert {path.lstat().st_mtime for path in unpacked.rglob("*")} <= {EPOCH}


def as_packed(tree: Tree, options: list[str]) -> Tree:
    """GNU tar links files and symlinks alone, and has extended attributes in the POSIX format alone."""
    linked = (EntryType.FILE, EntryType.SYMLINK)
    groups = [(node, [node.names] if node.entry.type in linked else [(name,) for name in node.names]) for node in tree]
    single = tuple(replace(node, names=names) for node, some in groups for names in some)
    if "--format=posix" in options:
        return single
    return tuple(replace(node, entry=replace(node.entry, xattrs=())) for node in single)


# Images of two layers: a base with our child over it, and two layers as somebody else writes them


def ours(stack: tuple[Tree, Layer], dialect: Dialect, choose: random.Random, work: Path) -> list[Written]:
    lower, layer = stack
    whole = archive_of(lower, dialect, choose)
    with canonicalise(io.BytesIO(whole), spool_dir=work, epoch=EPOCH) as base:
        written = [base.write_layer(work / "0.tar.gz")]
        after = archive_of(layer.over(lower), dialect, choose)
        with canonicalise(io.BytesIO(after), spool_dir=work, epoch=EPOCH) as tree:
            written.append(tree.write_layer(work / "1.tar.gz", changes=diff(base.entries, tree.entries)))
    return written


def theirs(stack: tuple[Tree, Layer], dialect: Dialect, choose: random.Random, work: Path) -> list[Written]:
    return [
        write_layer([archive_of(tree, dialect, choose, shuffled=False)], work / f"{number}.tar.gz")
        for number, tree in enumerate((stack[0], stack[1].stored()))
    ]


def config_of(layers: Sequence[Written]) -> bytes:
    rootfs = RootFS(diff_ids=tuple(layer.diff_id for layer in layers))
    return ImageConfig(architecture="amd64", os="linux", rootfs=rootfs).to_bytes()


Layers = Callable[[tuple[Tree, Layer], Dialect, random.Random, Path], list[Written]]
WRITERS = pytest.mark.parametrize("layers_of", [ours, theirs])


@examples(30)
@given(stack=stacks(), dialect=KNOWN, choose=RANDOM)
@WRITERS
def test_umoci_unpacks_a_layout_to_the_tree_that_flatten_sees(
    tmp_path: Path, layers_of: Layers, stack: tuple[Tree, Layer], dialect: Dialect, choose: random.Random
) -> None:
    expected = entries_of(stack[1].over(stack[0]))
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        work = Path(name)
        layers = layers_of(stack, dialect, choose, work)
        with contextlib.ExitStack() as opened:
            assert flatten([opened.enter_context(gzip.open(layer.path)) for layer in layers]) == expected
        config = config_of(layers)
        manifest = Manifest(
            config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)),
            layers=tuple(Descriptor(media_type=la.media_type, digest=la.digest, size=la.size) for la in layers),
        )
        write_layout(work / "layout", manifest, config, [layer.path for layer in layers], ref_name="it")
        run(["umoci", "unpack", "--image", work / "layout:it", work / "bundle"], timeout=60)
        assert walk(work / "bundle/rootfs") == expected


@examples(10)
@given(stack=stacks(), dialect=KNOWN, choose=RANDOM)
@WRITERS
def test_docker_loads_an_image_and_exports_the_tree_that_flatten_sees(
    tmp_path: Path,
    client: docker.DockerClient,
    layers_of: Layers,
    stack: tuple[Tree, Layer],
    dialect: Dialect,
    choose: random.Random,
) -> None:
    lower, layer = stack
    # Docker on overlayfs does not heed an opaque root directory.
    layer = replace(layer, opaque=layer.opaque - {b""})
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        layers = layers_of((lower, layer), dialect, choose, Path(name))
        config = config_of(layers)
        with tarfile.open(Path(name, "image.tar"), "w") as tar:
            listed = json.dumps(
                [{"Config": "config.json", "RepoTags": [], "Layers": [each.path.name for each in layers]}]
            ).encode()
            for member, data in (("config.json", config), ("manifest.json", listed)):
                header = tarfile.TarInfo(member)
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
            for each in layers:
                tar.add(each.path, each.path.name)
        with Path(name, "image.tar").open("rb") as stream:
            client.images.load(stream)
        assert exported(client, digest_of(config), tmp_path) == as_exported(layer.over(lower))


@examples(10)
@given(tree=trees(), dialect=KNOWN, choose=RANDOM)
def test_docker_imports_the_canonical_form_and_exports_the_tree(
    tmp_path: Path, client: docker.DockerClient, tree: Tree, dialect: Dialect, choose: random.Random
) -> None:
    archive = archive_of(tree, dialect, choose)
    with canonicalise(io.BytesIO(archive), spool_dir=tmp_path, epoch=EPOCH) as made:
        data = b"".join(tar_stream(made.entries, made.contents, epoch=EPOCH))
    image = json.loads(client.api.import_image_from_data(data).splitlines()[-1])["status"]
    assert exported(client, image, tmp_path) == as_exported(tree)


def exported(client: docker.DockerClient, image: str, directory: Path) -> tuple[Entry, ...]:
    """The tree of a container, without the directories that the engine makes."""
    container = client.containers.create(image, ["/none"])
    try:
        with canonicalise(stream_of(container.export()), spool_dir=directory, epoch=EPOCH) as tree:
            return tuple(entry for entry in tree.entries if entry.path not in ENGINE_DIRECTORIES)
    finally:
        container.remove()
        client.images.remove(image)


def as_exported(tree: Tree) -> tuple[Entry, ...]:
    """An export leaves out all extended attributes but file capabilities."""
    return tuple(
        replace(entry, xattrs=tuple(pair for pair in entry.xattrs if pair[0] == b"security.capability"))
        for entry in entries_of(tree)
    )
