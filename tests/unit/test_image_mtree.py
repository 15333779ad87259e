"""What is written as mtree(5) is understood by those who read it: NetBSD's mtree and libarchive's bsdtar."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from builder.forensics.subjects.directory import open_directory
from builder.image.entry import Entry, EntryType
from builder.image.mtree import mtree_lines
from tests.integration.trees_on_disk import build
from tests.unit.trees import Tree, trees


def specification(root: Path) -> bytes:
    with open_directory(str(root)) as subject, subject.entries(root) as entries:
        return b"".join(mtree_lines(entries))


def mtree(root: Path, spec: bytes) -> str:
    """What mtree finds to differ."""
    command = ["mtree", "-p", root]
    ended = subprocess.run(command, input=spec, capture_output=True, check=False)
    assert ended.returncode in (0, 2), ended.stderr
    assert ended.stderr == b""
    return ended.stdout.decode("utf-8", "backslashreplace")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a dir/#of").mkdir(parents=True)
    (root / "a dir/#of/[odd]*?names=$x\\").write_bytes(b"content")
    (root / "link").symlink_to("to some #where\\")
    os.link(root / "link", root / "other", follow_symlinks=False)
    (root / "file").write_bytes(b"abc")
    (root / "same").hardlink_to(root / "file")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", 0o020600, os.makedev(1, 3))
    return root


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees())
def test_mtree_finds_a_tree_to_be_its_specification(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as directory:
        build(tree, Path(directory))
        assert mtree(Path(directory), specification(Path(directory))) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: (root / "file").write_bytes(b"abd"), "sha256"),
        (lambda root: (root / "file").chmod(0o4755), "permissions"),
        (lambda root: os.chown(root / "file", 5, 6), "user"),
        (lambda root: (root / "fifo").unlink(), "missing: ./fifo"),
        (lambda root: (root / "a dir/new").write_bytes(b""), "new"),
        (lambda root: ((root / "link").unlink(), (root / "link").symlink_to("elsewhere")), "link ref"),
        (lambda root: ((root / "null").unlink(), os.mknod(root / "null", 0o020600, os.makedev(1, 5))), "device"),
    ],
)
def test_mtree_finds_each_change(root: Path, change: object, told: str) -> None:
    spec = specification(root)
    change(root)  # type: ignore[operator]
    assert told in mtree(root, spec)


def test_bsdtar_reads_every_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "spec").write_bytes(specification(root))
    listed = subprocess.run(["bsdtar", "-tf", tmp_path / "spec"], capture_output=True, check=True).stdout
    names = {b"." if path == root else b"./" + os.fsencode(path.relative_to(root)) for path in (root, *root.rglob("*"))}
    assert set(listed.replace(b"\\\\", b"\\").splitlines()) == names


def test_a_name_is_no_second_line_and_no_other_keyword() -> None:
    hostile = Entry(b"a\n./etc/passwd mode=0777", EntryType.FILE, 0o600, 0, 0, sha256="0" * 64)
    lines = list(mtree_lines([hostile]))
    assert len(lines) == 3
    assert lines[2].startswith(b"./a\\012./etc/passwd\\040mode\\0750777 type=file mode=0600 ")


def test_a_file_that_could_not_be_read_has_no_digest_to_be_equal_to() -> None:
    assert list(mtree_lines([Entry(b"a", EntryType.FILE, 0o600, 1, 2)]))[2] == b"./a type=file mode=0600 uid=1 gid=2\n"
