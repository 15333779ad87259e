"""Each kind of subject gives the tree that it is, names what nobody looked at, and cannot be led astray."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings

from builder.forensics import collector
from builder.forensics.subjects.archive import ArchiveSubject, PipedArchiveSubject
from builder.forensics.subjects.directory import open_directory
from builder.forensics.subjects.image import image_in_layout, image_in_registry
from builder.forensics.subjects.listed import InventorySubject, take_inventory
from builder.forensics.subjects.subject import Subject, SubjectUnreadable
from builder.image.documents import Manifest
from builder.image.entry import Entry, EntryType
from builder.image.inventory import InventoryInvalid, open_inventory
from builder.image.layout import write_layout
from builder.image.packing import CompressionInvalid
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.reference import Repository
from tests.integration.registry_server import running_registry
from tests.integration.test_forensics import Golden
from tests.integration.trees_on_disk import build, walk
from tests.unit.trees import Tree, trees

PYTHONS = sorted({sys.executable, *map(str, Path("/usr/bin").glob("python3.?*[0-9]"))})


def entries_of(subject: Subject) -> tuple[Entry, ...]:
    with tempfile.TemporaryDirectory() as directory, subject.entries(Path(directory)) as entries:
        return tuple(entries)


def contents_of(subject: Subject, paths: Collection[bytes]) -> dict[bytes, bytes]:
    return {path: b"".join(chunks) for path, chunks in subject.contents(paths)}


def below(root: Path) -> tuple[Entry, ...]:
    with open_directory(str(root)) as subject:
        return entries_of(subject)


def collected(root: Path, *options: str, python: str = sys.executable) -> bytes:
    """What the collector alone writes, in a place without anything of ours."""
    with tempfile.TemporaryDirectory() as elsewhere:
        script = Path(elsewhere) / "collector.py"
        script.write_bytes(Path(collector.__file__).read_bytes())
        command = [python, "-I", "-S", script, root, *options]
        return subprocess.run(command, cwd=elsewhere, env={}, check=True, capture_output=True).stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small tree with one of everything."""
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/a").write_bytes(b"content of a")
    (root / "usr/lib/b").hardlink_to(root / "usr/lib/a")
    (root / "usr/link").symlink_to("/etc/passwd")
    (root / "usr/link2").hardlink_to(root / "usr/link")
    (root / "usr-x").write_bytes(b"x")
    (root / "usr/lib/a").chmod(0o4755)
    os.setxattr(root / "usr-x", "user.note", b"n")
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    os.mkfifo(root / "fifo")
    return root


# Directories


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees())
def test_a_walk_gives_what_the_kernel_has_whatever_is_there(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as directory:
        build(tree, Path(directory))
        assert below(Path(directory)) == walk(Path(directory))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees())
def test_the_collector_alone_has_the_root_of_our_inventory(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as out:
        build(tree, Path(directory))
        header = json.loads(collected(Path(directory)).partition(b"\n")[0])
        with open_directory(directory) as subject:
            ours = take_inventory(subject, Path(out) / "inventory")
    assert (header["root"], header["entries"]) == (ours.root, ours.entries)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_collector_runs_on_each_python_of_this_machine(root: Path, tmp_path: Path, python: str) -> None:
    (tmp_path / "subject.jsonl").write_bytes(collected(root, python=python))
    assert entries_of(InventorySubject(tmp_path / "subject.jsonl")) == below(root)


def test_the_collector_uses_nothing_that_the_oldest_python_lacks() -> None:
    source = Path(collector.__file__).read_text("utf-8")
    compile(source, "collector.py", "exec", dont_inherit=True)
    import ast

    ast.parse(source, feature_version=(3, 6))
    imported = {
        name.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for name in node.names
    } | {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


def test_a_directory_that_becomes_a_link_before_it_is_opened_is_a_link(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    with open_directory(str(root)) as subject, subject.entries(tmp_path) as entries:
        first = next(entries)
        (root / "usr").rename(tmp_path / "away")
        (root / "usr").symlink_to(outside)
        found = {entry.path: entry.type for entry in (first, *entries)}
    assert found[b"usr"] is EntryType.SYMLINK
    assert not [path for path in found if path.startswith(b"usr/")]


def test_a_directory_that_becomes_a_link_after_it_was_opened_is_still_the_directory(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    with open_directory(str(root)) as subject, subject.entries(tmp_path) as entries:
        found = {}
        for entry in entries:
            found[entry.path] = entry
            if entry.path == b"usr":
                (root / "usr").rename(tmp_path / "away")
                (root / "usr").symlink_to(outside)
    assert b"usr/lib/a" in found
    assert b"usr/secret" not in found


def test_names_swapped_all_the_time_never_lead_outside(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    for directory in (outside, root):
        (directory / "d").mkdir(parents=True)
        (directory / "d/file").write_bytes(directory.name.encode())
        (directory / "link").symlink_to(outside / "d" if directory is root else "d")
    secret = next(entry.sha256 for entry in below(outside) if entry.path == b"d/file")
    stop = threading.Event()

    def swap() -> None:
        d, link, other = root / "d", root / "link", root / "other"
        while not stop.is_set():
            for one, two in ((d, other), (link, d), (d, link), (other, d)):
                one.rename(two)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        types = set()
        for _ in range(400):
            found = below(root)
            assert secret not in {entry.sha256 for entry in found}
            types |= {entry.type for entry in found if entry.path == b"d"}
    finally:
        stop.set()
        swapping.join()
    assert types == {EntryType.DIRECTORY, EntryType.SYMLINK}, "nothing was swapped"


def test_what_is_asked_for_again_is_not_reached_through_a_link(root: Path, tmp_path: Path) -> None:
    with open_directory(str(root)) as subject:
        assert contents_of(subject, [b"usr/lib/a", b"usr/link", b"gone", b"fifo"]) == {b"usr/lib/a": b"content of a"}
        (root / "usr").rename(tmp_path / "away")
        (root / "usr").symlink_to(tmp_path / "away")
        assert contents_of(subject, [b"usr/lib/a"]) == {}


def test_mounts_are_not_crossed_and_are_named_also_those_of_the_same_file_system(root: Path, tmp_path: Path) -> None:
    (root / "data/deep").mkdir(parents=True)
    (root / "data of mine").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/other").write_bytes(b"")
    subprocess.run(["mount", "--bind", tmp_path / "elsewhere", root / "data"], check=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "none", root / "data of mine"], check=True)
        try:
            with open_directory(str(root)) as subject:
                paths = {entry.path for entry in entries_of(subject)}
                assert not [path for path in paths if path.startswith(b"data")]
                assert any(what.startswith("what is mounted at /data (") for what in subject.unproven)
                assert "what is mounted at /data of mine (tmpfs)" in subject.unproven
                assert [subject.looked_at(path) for path in (b"data", b"data/deep", b"data of m", b"usr")] == [
                    False, False, True, True,
                ]  # fmt: skip
        finally:
            subprocess.run(["umount", root / "data of mine"], check=True)
    finally:
        subprocess.run(["umount", root / "data"], check=True)


def test_a_mount_that_appears_meanwhile_is_not_crossed_either(root: Path, tmp_path: Path) -> None:
    with open_directory(str(root)) as subject, subject.entries(tmp_path) as entries:
        subprocess.run(["mount", "-t", "tmpfs", "none", root / "usr"], check=True)
        try:
            found = {entry.path for entry in entries}
        finally:
            subprocess.run(["umount", root / "usr"], check=True)
        assert b"usr" not in found
        assert "mounted there, and not looked at: /usr" in subject.unproven


def test_sockets_are_left_out_as_archives_do_and_named(root: Path) -> None:
    before = below(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "usr/s"))
        with open_directory(str(root)) as subject:
            assert entries_of(subject) == before
            assert subject.unproven == ("sockets, which no archive and no image holds: /usr/s",)


def test_what_cannot_be_read_is_named_and_equal_to_nothing(root: Path, tmp_path: Path) -> None:
    (root / "usr/lib/a").chmod(0o600)
    (root / "usr/closed").mkdir(mode=0o700)
    (root / "usr").chmod(0o755)
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    (tmp_path / "collector.py").write_bytes(Path(collector.__file__).read_bytes())
    command = ["/usr/bin/python3", "-I", "-S", tmp_path / "collector.py", root]
    ended = subprocess.run(command, check=True, capture_output=True, user=65534, group=65534, extra_groups=[])
    (tmp_path / "subject.jsonl").write_bytes(ended.stdout)
    subject = InventorySubject(tmp_path / "subject.jsonl")
    found = {entry.path: entry for entry in entries_of(subject)}
    assert (found[b"usr/lib/a"].type, found[b"usr/lib/a"].sha256) == (EntryType.FILE, None)
    assert found[b"usr-x"].sha256 is not None
    assert {what.partition(": ")[2] for what in subject.unproven} == {"/usr/lib/a", "/usr/closed"}


def test_a_file_that_grows_while_it_is_read_is_told_and_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = collector.read_file

    def appended(fd: int, most: int) -> Iterator[bytes]:
        for chunk in reading(fd, most):
            if chunk.startswith(b"x"):
                with (root / "usr-x").open("ab") as file:
                    file.write(b"x" * 1000)
            yield chunk

    monkeypatch.setattr(collector, "read_file", appended)
    with open_directory(str(root)) as subject:
        size = next(entry.size for entry in entries_of(subject) if entry.path == b"usr-x")
        assert "changed while it was read: /usr-x" in subject.unproven
    assert size <= 2


def test_a_file_as_large_as_no_disk_is_not_read(root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(collector.LARGEST_FILE + 1)
    with open_directory(str(root)) as subject:
        assert [entry.sha256 for entry in entries_of(subject) if entry.path == b"huge"] == [None]
        assert [what for what in subject.unproven if what.endswith("not read: /huge")]


def test_directories_deeper_than_any_image_has_end_the_walk_there(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(collector.DEEPEST + 20):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with open_directory(str(tmp_path)) as subject:
        assert len(entries_of(subject)) == collector.DEEPEST
        assert any("deep, not looked into" in what for what in subject.unproven)


def test_to_look_leaves_no_access_time_behind(root: Path) -> None:
    os.utime(root / "usr-x", (1, 2_000_000_000))
    below(root)
    assert (root / "usr-x").stat().st_atime == 1


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SubjectUnreadable, match="No such file"), open_directory(str(tmp_path / "gone")):
        pass


# Archives


def packed(root: Path) -> bytes:
    command = ["tar", "-c", "--xattrs", "--xattrs-include=*", "--format=pax", "-C", root, "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


def encodings(data: bytes) -> dict[str, bytes]:
    return {"plain": data, "gzip": gzip.compress(data), "zstd": zstandard.compress(data)}


@pytest.mark.parametrize("encoding", ["plain", "gzip", "zstd"])
def test_an_archive_of_a_directory_is_that_directory(root: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "root.tar").write_bytes(encodings(packed(root))[encoding])
    subject = ArchiveSubject(tmp_path / "root.tar")
    assert entries_of(subject) == below(root)
    assert contents_of(subject, [b"usr/lib/a", b"usr-x", b"none"]) == {b"usr/lib/a": b"content of a", b"usr-x": b"x"}


@pytest.mark.parametrize("encoding", ["plain", "gzip", "zstd"])
def test_a_pipe_is_read_once_and_its_contents_are_there_again(root: Path, tmp_path: Path, encoding: str) -> None:
    subject = PipedArchiveSubject(io.BytesIO(encodings(packed(root))[encoding]), "standard input")
    with subject.entries(tmp_path) as entries:
        assert tuple(entries) == below(root)
    assert contents_of(subject, [b"usr/lib/a"]) == {b"usr/lib/a": b"content of a"}
    subject.close()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_damaged_archive_is_refused(root: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "root.tar").write_bytes(encodings(packed(root))[encoding][:-9])
    with pytest.raises(CompressionInvalid):
        entries_of(ArchiveSubject(tmp_path / "root.tar"))


def test_a_files_content_is_found_whichever_of_its_names_the_archive_has_first(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("z")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.LNKTYPE, "z"
        tar.addfile(link)
    (tmp_path / "root.tar").write_bytes(out.getvalue())
    subject = ArchiveSubject(tmp_path / "root.tar")
    assert [(entry.path, entry.target) for entry in entries_of(subject)] == [(b"a", None), (b"z", b"a")]
    assert contents_of(subject, [b"a"]) == {b"a": b"abc"}


# Inventories


@pytest.mark.parametrize("encoding", ["plain", "gzip", "zstd"])
def test_an_inventory_is_read_in_each_encoding(root: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "subject").write_bytes(encodings(collected(root))[encoding])
    assert entries_of(InventorySubject(tmp_path / "subject")) == below(root)


def test_the_collector_compresses_where_it_is_asked_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "subject").write_bytes(collected(root, "--gzip"))
    assert gzip.decompress((tmp_path / "subject").read_bytes()) == collected(root)
    assert entries_of(InventorySubject(tmp_path / "subject")) == below(root)


def test_an_inventory_that_was_changed_on_its_way_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "subject").write_bytes(collected(root).replace(b'"mode":"4755"', b'"mode":"0755"'))
    with pytest.raises(InventoryInvalid, match="Merkle root"):
        entries_of(InventorySubject(tmp_path / "subject"))


def test_an_inventory_says_what_was_not_looked_at_when_it_was_taken(root: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", root / "usr"], check=True)
    try:
        with open_directory(str(root)) as subject:
            take_inventory(subject, tmp_path / "subject")
        (tmp_path / "collected").write_bytes(collected(root))
    finally:
        subprocess.run(["umount", root / "usr"], check=True)
    for file in ("subject", "collected"):
        taken = InventorySubject(tmp_path / file)
        assert taken.unproven == ("what is mounted at /usr (tmpfs)",)
        assert (taken.looked_at(b"usr/lib"), taken.looked_at(b"usr-x")) == (False, True)


# Images


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(tmp_path_factory.mktemp("golden"))


@pytest.fixture
def layout(golden: Golden, tmp_path: Path) -> Path:
    write_layout(tmp_path / "layout", golden.manifest, golden.config, [layer.path for layer in golden.layers])
    return tmp_path / "layout"


def is_golden(subject: Subject, golden: Golden) -> None:
    assert entries_of(subject) == golden.entries
    assert subject.described.image_digests == (golden.manifest.descriptor().digest,)
    assert (subject.configuration or {})["config"]["Cmd"] == ["/usr/bin/dash"]
    wanted = [b"root/added", b"etc/conf", b"usr/one", b"srv/new"]
    assert contents_of(subject, wanted) == {
        b"root/added": b"hello from the child\n", b"etc/conf": b"a=1\n", b"usr/one": b"linked", b"srv/new": b"new",
    }  # fmt: skip


def test_an_image_in_a_layout_is_what_its_layers_make(golden: Golden, layout: Path) -> None:
    with image_in_layout(layout) as subject:
        is_golden(subject, golden)


def test_a_layout_may_be_in_a_tar_file(golden: Golden, layout: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-czf", tmp_path / "image.tar.gz", "-C", layout, "."], check=True)
    with image_in_layout(tmp_path / "image.tar.gz") as subject:
        is_golden(subject, golden)


def test_an_image_in_a_registry_is_fetched_and_verified(golden: Golden, tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry") as address:
        repository = Repository(address, "golden/shell")
        with RegistryClient(Access(), lock_directory=tmp_path) as client:
            blobs: dict[str, Path | bytes] = {layer.digest: layer.path for layer in golden.layers}
            blobs[golden.manifest.config.digest] = golden.config
            client.images.push(repository, Manifest.model_validate(golden.manifest), blobs, tag="v1")
        with image_in_registry(Access(), repository.tagged("v1")) as subject:
            is_golden(subject, golden)
            assert subject.described.name == f"{address}/golden/shell:v1"


def test_an_inventory_of_an_image_is_the_golden_one(golden: Golden, layout: Path, tmp_path: Path) -> None:
    with image_in_layout(layout) as subject:
        taken = take_inventory(subject, tmp_path / "taken")
    assert taken.root == golden.inventory.root
    with open_inventory(golden.inventory.path) as (header, _):
        assert header.subject is None
