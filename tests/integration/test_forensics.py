"""The whole way with a real engine: image, registry, `docker pull` by digest, container, export, comparison."""

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from builder.forensics.compare import compare
from builder.forensics.expected import expected_reason
from builder.forensics.findings import Difference, Finding, Kind, Outcome, Severity, Verdict, verdict_of
from builder.forensics.subjects.archive import sorted_entries
from builder.forensics.subjects.container import ContainerUnknown, export_container, find_container
from builder.forensics.subjects.image import entries_of_image
from builder.image.canonical import canonicalise
from builder.image.changes import diff
from builder.image.digests import Readable, digest_of
from builder.image.documents import CONFIG, Descriptor, ImageConfig, Manifest, RootFS, Runtime
from builder.image.entry import Entry
from builder.image.flatten import flatten
from builder.image.inventory import open_inventory, write_inventory
from builder.image.layer import Layer
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.reference import Repository, parse_reference
from tests.integration.registry_server import running_registry

EPOCH = 1_700_000_000
SHELL = ["/usr/bin/dash", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"]
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")

Members = dict[str, tuple[tarfile.TarInfo, bytes]]


def add(members: Members, path: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    members[path] = (info, data)


def base_members() -> Members:
    """A shell and its libraries from this machine, beside one entry of each kind that engines have got wrong."""
    members: Members = {}
    for path in SHELL:
        add(members, path.lstrip("/"), Path(path).read_bytes(), mode=0o755)
    for path, mode in (
        ("dev", 0o755),
        ("tmp", 0o755),
        ("root", 0o700),
        ("etc", 0o755),
        ("run", 0o755),
        ("srv", 0o1750),
    ):
        add(members, path, type=tarfile.DIRTYPE, mode=mode)
    add(members, "etc/conf", b"a=1\n")
    add(members, "etc/gone", b"removed by the child\n")
    add(members, "gone/deep/down", b"removed by the child\n")
    add(members, "srv/old", b"old", uid=1000, gid=1000)
    add(
        members,
        "usr/bin/ping",
        b"ping",
        mode=0o755,
        pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode()},
    )
    add(members, "usr/bin/su", b"su", mode=0o4755)
    add(members, "usr/one", b"linked")
    add(members, "usr/two", type=tarfile.LNKTYPE, linkname="usr/one")
    add(members, "usr/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    add(members, "usr/" + "n" * 60 + "/" + "m" * 120, b"long name")
    add(members, "turns/into/a/file", b"x")
    return members


def child_members() -> Members:
    members = base_members()
    for path in ("etc/gone", "gone/deep/down", "turns/into/a/file"):
        del members[path]
    add(members, "root/added", b"hello from the child\n", mode=0o600)
    add(members, "srv/new", b"new")
    add(members, "usr/three", type=tarfile.LNKTYPE, linkname="usr/one")
    add(members, "turns", b"file now")
    return members


def archive(members: Members) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members.values():
            tar.addfile(info, io.BytesIO(data))
    return io.BytesIO(out.getvalue())


class Golden:
    """An image of two layers and its inventory."""

    def __init__(self, directory: Path) -> None:
        self.layers: list[Layer] = []
        with canonicalise(archive(base_members()), spool_dir=directory, epoch=EPOCH) as base:
            self.layers.append(base.write_layer(directory / "base.gz"))
            with canonicalise(archive(child_members()), spool_dir=directory, epoch=EPOCH) as child:
                self.layers.append(child.write_layer(directory / "child.gz", changes=diff(base.entries, child.entries)))
                self.entries = child.entries
                self.inventory = write_inventory(child.entries, directory / "inventory.jsonl.zst")
        self.config = ImageConfig(
            architecture="amd64",
            os="linux",
            config=Runtime(cmd=("/usr/bin/dash",), env=("PATH=/usr/bin",)),
            rootfs=RootFS(diff_ids=tuple(layer.diff_id for layer in self.layers)),
        ).to_bytes()
        self.manifest = Manifest(
            config=Descriptor(media_type=CONFIG, digest=digest_of(self.config), size=len(self.config)),
            layers=tuple(Descriptor(media_type=x.media_type, digest=x.digest, size=x.size) for x in self.layers),
        )

    def compare(self, entries: tuple[Entry, ...]) -> Outcome:
        with open_inventory(self.inventory.path) as (_, records):
            return compare(records, entries, judge=judge)


def judge(one: Difference) -> Finding:
    return Finding(one, Severity.MEDIUM, "any", "it differs", expected_reason(one.path, one.golden, one.subject))


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url="unix:///var/run/docker.sock")
    yield client
    client.close()


@pytest.fixture(scope="module")
def reference(golden: Golden, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, pushed and pulled by digest; HOST/NAME@DIGEST."""
    directory = tmp_path_factory.mktemp("registry")
    with running_registry(directory) as address, RegistryClient(Access(), lock_directory=directory) as client:
        repository = Repository(address, "golden/shell")
        blobs: dict[str, Path | bytes] = {layer.digest: layer.path for layer in golden.layers}
        blobs[golden.manifest.config.digest] = golden.config
        pushed = client.images.push(repository, golden.manifest, blobs)
        name = str(repository.at(pushed.digest))
        pulled = engine.images.pull(name)
        assert pulled.id == golden.manifest.config.digest
        yield name
        engine.images.remove(name, force=True)


def ran(engine: docker.DockerClient, reference: str, script: str) -> Iterator[str]:
    container = engine.containers.create(reference, ["/usr/bin/dash", "-c", script], network_mode="none")
    try:
        container.start()
        assert container.wait(timeout=60)["StatusCode"] == 0, container.logs()
        yield container.id
    finally:
        container.remove(force=True)


@pytest.fixture
def untouched(engine: docker.DockerClient, reference: str) -> Iterator[str]:
    yield from ran(
        engine,
        reference,
        'read line < /root/added; [ "$line" = "hello from the child" ] && [ ! -e /etc/gone ] && [ ! -e /gone ] &&'
        " [ -f /turns ] && [ -f /usr/three ] && [ -k /tmp ] && [ -u /usr/bin/su ]",
    )


@pytest.fixture
def tampered(engine: docker.DockerClient, reference: str) -> Iterator[str]:
    yield from ran(engine, reference, "echo evil > /tmp/payload; echo b=2 >> /etc/conf; : > /dev/null; umask 0")


def entries_of_archive(stream: Readable) -> tuple[Entry, ...]:
    with tempfile.TemporaryDirectory() as directory, sorted_entries(stream, Path(directory)) as entries:
        return tuple(entries)


def exported(engine: docker.DockerClient, container: str) -> tuple[Entry, ...]:
    return entries_of_archive(export_container(engine, find_container(engine, container)))


def test_a_container_of_the_released_image_shows_engine_changes_only(
    engine: docker.DockerClient, golden: Golden, untouched: str
) -> None:
    report = golden.compare(exported(engine, untouched))
    assert (verdict_of(report), report.findings) == (Verdict.EXPECTED, ())
    assert {one.difference.path for one in report.expected} >= {b".dockerenv", b"etc/hosts", b"dev/console"}
    assert report.golden_entries == len(golden.entries)


def test_a_container_knows_the_image_it_was_made_from(
    engine: docker.DockerClient, golden: Golden, reference: str, untouched: str
) -> None:
    container = find_container(engine, untouched)
    assert container.image_id == golden.manifest.config.digest
    assert reference in container.repo_digests
    with pytest.raises(ContainerUnknown):
        find_container(engine, "no-such-container")


def test_what_a_process_changed_in_a_container_is_found(
    engine: docker.DockerClient, golden: Golden, tampered: str
) -> None:
    report = golden.compare(exported(engine, tampered))
    assert verdict_of(report) is Verdict.DRIFTED
    assert {one.difference.path: one.difference.kinds for one in report.findings} == {
        b"tmp/payload": (Kind.ADDED,),
        b"etc/conf": (Kind.CONTENT,),
    }


def test_the_engines_export_has_the_canonical_form_of_the_image(
    engine: docker.DockerClient, golden: Golden, untouched: str, tmp_path: Path
) -> None:
    stream = export_container(engine, find_container(engine, untouched))
    with canonicalise(stream, spool_dir=tmp_path, epoch=EPOCH) as tree:
        # Directories that the engine adds to mount on are all that the canonical form of an export may have more.
        assert set(tree.entries) - set(golden.entries) <= {e for e in tree.entries if e.path in (b"proc", b"sys")}
        assert set(golden.entries) <= set(tree.entries)


def test_the_image_in_the_registry_is_identical_to_its_inventory(
    golden: Golden, reference: str, tmp_path: Path
) -> None:
    with RegistryClient(Access(), lock_directory=tmp_path) as client:
        image = client.images.pull(parse_reference(reference), tmp_path / "layout")
    assert verdict_of(golden.compare(entries_of_image(image))) is Verdict.IDENTICAL


def test_the_layers_make_the_tree_that_gnu_tar_unpacks(golden: Golden, tmp_path: Path) -> None:
    """Applied by hand as the specification says: unpack, remove what whiteouts name, unpack the next."""
    root = tmp_path / "root"
    root.mkdir()
    for layer in golden.layers:
        plain = gzip.decompress(layer.path.read_bytes())
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            names = {info.name: info.isdir() for info in tar.getmembers()}
        for name, is_directory in names.items():
            if (root / name).is_dir() and not is_directory:
                shutil.rmtree(root / name)
        unpack = ["tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", root]
        subprocess.run(unpack, input=plain, check=True, capture_output=True)
        for name in names:
            if Path(name).name.startswith(".wh."):
                (root / name).unlink()
                gone = (root / name).parent / Path(name).name.removeprefix(".wh.")
                shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    pack = ["tar", "-c", "--xattrs", "--xattrs-include=*", "--format=pax", "-C", root, "."]
    packed = subprocess.run(pack, check=True, capture_output=True).stdout
    assert entries_of_archive(io.BytesIO(packed)) == golden.entries
    assert os.getxattr(root / "usr/bin/ping", "security.capability") == CAPABILITY


def test_flattened_layers_are_the_inventory(golden: Golden) -> None:

    streams = [io.BytesIO(gzip.decompress(layer.path.read_bytes())) for layer in golden.layers]
    assert flatten(streams) == golden.entries
