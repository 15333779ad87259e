"""Whatever the order and the size of an archive, its entries are those that settling them in memory gives."""

import io
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.forensics import runs, sorting
from builder.forensics.sorting import in_canonical_order
from builder.image.canonical import remember
from builder.image.entry import Entry, EntryType
from builder.image.settle import link_targets, settle
from builder.image.tarheader import ArchiveInvalid, ArchiveTooLarge
from builder.image.tarstream import read_hashed
from tests.unit.trees import DIALECTS, Dialect, Tree, archive_of, entries_of, trees

PATHS = st.lists(st.sampled_from([b"a", b"b", b"a-b", b"\xff"]), min_size=1, max_size=3).map(b"/".join)
XATTRS = st.sampled_from([(), ((b"user.x", b"1"),), ((b"user.large", bytes(range(256)) * 40),)])


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    path, mode = draw(PATHS), draw(st.sampled_from([0o644, 0o755]))
    kind = draw(
        st.sampled_from([*[EntryType.FILE] * 3, *[EntryType.HARDLINK] * 3, *[EntryType.DIRECTORY] * 3, *EntryType])
    )
    entry = Entry(path, kind, mode, 0, 0, xattrs=draw(XATTRS))
    if kind is EntryType.FILE:
        return replace(entry, size=1, sha256=draw(st.sampled_from(["a" * 64, "b" * 64])))
    if kind in (EntryType.HARDLINK, EntryType.SYMLINK):
        return replace(entry, target=draw(PATHS))
    return replace(entry, device=(1, 3)) if kind in (EntryType.CHARACTER, EntryType.BLOCK) else entry


ARCHIVES = st.lists(entries(), max_size=10, unique_by=lambda entry: entry.path) | st.lists(entries(), max_size=10)
FLAT = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
FILES_AND_LINKS = st.dictionaries(FLAT, st.none() | FLAT, max_size=6).map(
    lambda found: [
        Entry(path, EntryType.HARDLINK if target else EntryType.FILE, 0o644, 0, 0, target=target)
        for path, target in found.items()
    ]
)


def in_memory(found: Iterable[Entry]) -> list[Entry] | None:
    """What image/settle.py makes of an archive; None if it refuses it."""
    stored: dict[bytes, Entry] = {}
    try:
        for entry in found:
            remember(stored, entry)
        return settle(link_targets(stored), stored)[0]
    except ArchiveInvalid:
        return None


def streamed(found: Iterable[Entry], directory: Path) -> list[Entry] | None:
    try:
        with in_canonical_order(found, directory) as ordered:
            return list(ordered)
    except ArchiveInvalid:
        return None


@pytest.fixture(params=["in memory", "spilled often"])
def spilling(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "spilled often":
            patch.setattr(runs, "_MOST_WEIGHT", 1300)
            patch.setattr(runs, "_BLOCK_WEIGHT", 700)
        yield


@pytest.mark.usefixtures("spilling")
@given(archive=ARCHIVES)
def test_random_archives_settle_as_they_do_in_memory(
    archive: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert streamed(archive, tmp_path_factory.getbasetemp()) == in_memory(archive)


@pytest.mark.usefixtures("spilling")
@given(archive=FILES_AND_LINKS)
def test_links_to_links_settle_as_they_do_in_memory(
    archive: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert streamed(archive, tmp_path_factory.getbasetemp()) == in_memory(archive)


@given(tree=trees(), dialect=DIALECTS, choose=st.randoms(use_true_random=False))
def test_a_tree_comes_out_of_any_archive_of_it(
    tree: Tree, dialect: Dialect, choose: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = io.BytesIO(archive_of(tree, dialect, choose))
    found = streamed(read_hashed(stream), tmp_path_factory.getbasetemp())
    explicit = {entry.path for entry in entries_of(tree)}
    assert found is not None
    assert tuple(entry for entry in found if entry.path in explicit) == entries_of(tree)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ([("a", "file"), ("a", "file")], "twice"),
        ([("a", "directory"), ("a", "file")], "twice"),
        ([("a", "file"), ("a/b", "file")], "lies below /a, which is a file"),
        ([("a/b/c", "file"), ("a", "file")], "lies below /a, which is a file"),
        ([("a", "hardlink", "b")], "which is not in the archive"),
        ([("a", "hardlink", "b"), ("b", "hardlink", "c")], "which is not in the archive"),
        ([("a", "hardlink", "a")], "leads back to itself"),
        ([("a", "hardlink", "b"), ("b", "hardlink", "c"), ("c", "hardlink", "b")], "leads back to itself"),
        ([("a", "hardlink", "d"), ("d", "directory")], "a hard link to a directory"),
        ([("a", "hardlink", "b"), ("b", "hardlink", "d"), ("d", "directory")], "a hard link to a directory"),
    ],
)
def test_what_is_no_tree_is_refused(archive: list[tuple[str, ...]], message: str, tmp_path: Path) -> None:
    found = [
        Entry(path.encode(), EntryType(kind), 0o644, 0, 0, target=target[0].encode() if target else None)
        for path, kind, *target in archive
    ]
    for order in (found, found[::-1]):
        with pytest.raises(ArchiveInvalid, match=message), in_canonical_order(order, tmp_path) as ordered:
            list(ordered)


def test_a_whiteout_name_in_a_container_hides_nothing(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("b", ".wh.b"):
            tar.addfile(tarfile.TarInfo(name))
    found = streamed(read_hashed(io.BytesIO(out.getvalue())), tmp_path)
    assert [entry.path for entry in found or ()] == [b".wh.b", b"b"]


def test_a_long_chain_of_links_is_followed_in_linear_time(tmp_path: Path) -> None:
    last = Entry(b"z", EntryType.FILE, 0o640, 1, 2, size=1, sha256="a" * 64)
    links = [
        Entry(b"%06d" % number, EntryType.HARDLINK, 0, 0, 0, target=b"%06d" % (number + 1)) for number in range(30_000)
    ]
    found = streamed([*links, replace(links[-1], path=b"030000", target=b"z"), last], tmp_path)
    assert found is not None
    assert found[0] == replace(last, path=b"000000")
    assert {entry.target for entry in found[1:]} == {b"000000"}
    assert {(entry.mode, entry.uid, entry.sha256) for entry in found} == {(0o640, 1, "a" * 64)}


def test_bounds_are_told_and_not_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = [Entry(b"%d" % number, EntryType.HARDLINK, 0, 0, 0, target=b"%d" % (number + 1)) for number in range(9)]
    chained = [*links, Entry(b"9", EntryType.FILE, 0, 0, 0)]
    deep = [Entry(b"%d/a/a/a/a/f" % number, EntryType.FILE, 0, 0, 0) for number in range(3)]
    large = [Entry(b"%d" % number, EntryType.FILE, 0, 0, 0, xattrs=((b"user.x", bytes(999)),)) for number in range(99)]
    monkeypatch.setattr(sorting, "_MOST_CHAINED", 5)
    monkeypatch.setattr(sorting, "_MOST_ADDED", 12)
    monkeypatch.setattr(runs, "_MOST_WEIGHT", 10_000)
    monkeypatch.setattr(runs, "_MOST_SPILLED", 50_000)
    for archive, message in ((chained, "5 hard links"), (deep, "12 directories"), (large, "50000 bytes")):
        with pytest.raises(ArchiveTooLarge, match=message), in_canonical_order(archive, tmp_path) as ordered:
            list(ordered)


def test_nothing_is_left_in_the_directory_and_few_entries_make_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    real = runs.tempfile.TemporaryFile
    monkeypatch.setattr(runs.tempfile, "TemporaryFile", lambda **options: made.append(options) or real(**options))
    few = [Entry(b"%05d" % number, EntryType.FILE, 0, 0, 0) for number in range(1000)]
    assert streamed(few, tmp_path) == few
    assert made == []
    monkeypatch.setattr(runs, "_MOST_WEIGHT", 100_000)
    assert streamed(few, tmp_path) == few
    assert made == [{"dir": tmp_path}]
    assert list(tmp_path.iterdir()) == []


def test_entries_that_come_in_order_are_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_MOST_WEIGHT", 10_000)
    monkeypatch.setattr(runs.heapq, "merge", None)  # nothing is merged
    many = [Entry(b"%05d" % number, EntryType.FILE, 0, 0, 0) for number in range(2000)]
    assert streamed(many, tmp_path) == many


_MANY = """
import random, resource, sys, time
from pathlib import Path
from builder.forensics.sorting import in_canonical_order
from builder.image.entry import Entry, EntryType

def entries(many, order):
    numbers = range(many) if order == "sorted" else (number * 7919 % many for number in range(many))
    for number in numbers:
        path = b"usr/share/package-%05d/part-%d/file-%07d" % (number // 100, number % 100 // 10, number)
        if order == "links" and number % 2:
            target = b"usr/share/package-%05d/part-%d/file-%07d" % (number // 100, (number - 1) % 100 // 10, number - 1)
            yield Entry(path, EntryType.HARDLINK, 0, 0, 0, target=target)
        else:
            yield Entry(path, EntryType.FILE, 0o644, 0, 0, size=9, sha256="%064x" % number)

many, order, directory = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
started = time.process_time()
with in_canonical_order(entries(many, order), directory) as ordered:
    count = sum(1 for _ in ordered)
status = Path("/proc/self/status").read_text()
print(count, int(status.partition("VmHWM:")[2].split()[0]) // 1024, time.process_time() - started)
"""


@pytest.mark.parametrize(("many", "order"), [(1_000_000, "sorted"), (300_000, "shuffled"), (300_000, "links")])
def test_many_entries_stay_below_150_mb(many: int, order: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MANY, str(many), order, str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, peak, _ = done.stdout.split()
    assert int(count) >= many
    assert int(peak) < 150
