"""A comparison finds every difference, names it, and excuses only what an engine writes itself."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.forensics.compare import Kind, OutOfOrder, Report, Verdict, compare
from builder.forensics.expected import Expectation
from builder.forensics.subject import entries_of_archive
from builder.image.entry import Entry, EntryType, canonical_key
from builder.image.inventory import Package, Record

A, B = "a" * 64, "b" * 64


def file(path: bytes, sha256: str = A, **fields: object) -> Entry:
    return replace(Entry(path, EntryType.FILE, 0o644, 0, 0, size=1, sha256=sha256), **fields)  # type: ignore[arg-type]


def directory(path: bytes) -> Entry:
    return Entry(path, EntryType.DIRECTORY, 0o755, 0, 0)


GOLDEN = [
    directory(b"dev"),
    directory(b"etc"),
    file(b"etc/conf"),
    directory(b"proc"),
    directory(b"sys"),
    directory(b"usr"),
    file(b"usr/a"),
    Entry(b"usr/b", EntryType.HARDLINK, 0o644, 0, 0, size=1, sha256=A, target=b"usr/a"),
    Entry(b"usr/s", EntryType.SYMLINK, 0o777, 0, 0, target=b"a"),
]
ENGINE = [
    file(b".dockerenv", size=0, mode=0o755),
    file(b"dev/console", size=0, mode=0o755),
    directory(b"dev/pts"),
    directory(b"dev/shm"),
    file(b"etc/hostname", size=0),
    file(b"etc/hosts"),
    Entry(b"etc/mtab", EntryType.SYMLINK, 0o777, 0, 0, target=b"/proc/mounts"),
    file(b"etc/resolv.conf", size=0),
]


def against(*subject: Entry, golden: list[Entry] = GOLDEN, **options: object) -> Report:
    ordered = sorted(subject, key=lambda entry: canonical_key(entry.path))
    return compare([Record(entry) for entry in golden], ordered, **options)  # type: ignore[arg-type]


def changed(path: bytes, **fields: object) -> list[Entry]:
    return [replace(entry, **fields) if entry.path == path else entry for entry in GOLDEN]  # type: ignore[arg-type]


def test_the_same_tree_is_identical() -> None:
    report = against(*GOLDEN)
    assert (report.verdict, report.golden_entries, report.subject_entries) == (Verdict.IDENTICAL, 9, 9)


def test_what_the_engine_adds_is_expected_listed_and_counted() -> None:
    report = against(*GOLDEN, *ENGINE)
    assert report.verdict is Verdict.EXPECTED
    assert {difference.path for difference in report.expected} == {entry.path for entry in ENGINE}
    assert (report.expected_total, report.drift_total, report.counts) == (len(ENGINE), 0, {})


@pytest.mark.parametrize(
    ("subject", "path", "kinds"),
    [
        ([*GOLDEN, file(b"tmp/x")], b"tmp/x", (Kind.ADDED,)),
        (GOLDEN[:-1], b"usr/s", (Kind.REMOVED,)),
        (changed(b"etc/conf", sha256=B), b"etc/conf", (Kind.CONTENT,)),
        (changed(b"etc/conf", mode=0o4755), b"etc/conf", (Kind.MODE,)),
        (changed(b"etc/conf", mode=0o600, uid=5), b"etc/conf", (Kind.MODE, Kind.OWNER)),
        (changed(b"etc/conf", gid=5), b"etc/conf", (Kind.OWNER,)),
        (changed(b"etc/conf", xattrs=((b"security.capability", b"x"),)), b"etc/conf", (Kind.XATTR,)),
        (changed(b"usr/s", target=b"/etc"), b"usr/s", (Kind.LINK,)),
        (changed(b"usr/b", type=EntryType.FILE, target=None), b"usr/b", (Kind.LINK,)),
        (changed(b"usr/b", type=EntryType.FILE, target=None, sha256=B), b"usr/b", (Kind.CONTENT, Kind.LINK)),
        (changed(b"usr/s", type=EntryType.FIFO, target=None), b"usr/s", (Kind.TYPE,)),
    ],
)
def test_each_difference_is_named(subject: list[Entry], path: bytes, kinds: tuple[Kind, ...]) -> None:
    report = against(*subject)
    assert report.verdict is Verdict.DRIFTED
    assert [(difference.path, difference.kinds) for difference in report.drift] == [(path, kinds)]
    assert report.counts == dict.fromkeys(kinds, 1)


def test_another_device_is_a_difference() -> None:
    null = Entry(b"x", EntryType.CHARACTER, 0o666, 0, 0, device=(1, 3))
    report = against(replace(null, device=(1, 1)), golden=[null])
    assert [difference.kinds for difference in report.drift] == [(Kind.DEVICE,)]


@pytest.mark.parametrize(
    "intruder",
    [
        file(b"dev/miner"),
        file(b"dev/shm/payload"),
        file(b"dev/shm/x/payload"),
        file(b"proc/x"),
        file(b"sys/x"),
        file(b"dev/empty", size=0, mode=0o4755),
        Entry(b"dev/sda", EntryType.BLOCK, 0o600, 0, 0, device=(8, 0)),
        file(b".dockerenv"),
        file(b"etc/hosts", size=1_000_000),
        file(b"etc/hosts", mode=0o6755),
        file(b"etc/hosts", xattrs=((b"security.capability", b"x"),)),
        Entry(b"etc/hosts", EntryType.SYMLINK, 0o777, 0, 0, target=b"/tmp/evil"),
        Entry(b"etc/mtab", EntryType.SYMLINK, 0o777, 0, 0, target=b"/tmp/evil"),
        file(b"etc/hosts.evil"),
        file(b"run/x"),
        file(b"tmp/x"),
    ],
    ids=lambda entry: f"{entry.path.decode()} {entry.type}",
)
def test_places_that_engines_use_do_not_hide_intruders(intruder: Entry) -> None:
    assert against(*GOLDEN, intruder).verdict is Verdict.DRIFTED


def test_directories_made_for_mounts_are_expected_in_an_image_without_them() -> None:
    report = against(directory(b"dev"), directory(b"etc"), directory(b"proc"), directory(b"sys"), golden=[])
    assert report.verdict is Verdict.EXPECTED
    assert against(directory(b"home"), golden=[]).verdict is Verdict.DRIFTED


def test_a_recipe_can_expect_more_and_its_reason_is_told() -> None:
    pids = [Expectation("run/*.pid", "the service's process id")]
    report = against(*GOLDEN, file(b"run/app.pid"), expectations=pids)
    assert report.verdict is Verdict.EXPECTED
    assert report.expected[0].expected == "the service's process id"
    assert against(*GOLDEN, file(b"run/a/b.pid"), expectations=pids).verdict is Verdict.DRIFTED


def test_a_set_uid_program_is_drift_even_where_writes_are_expected() -> None:
    writes = [Expectation("tmp/**", "the recipe says so")]
    plain, program = file(b"tmp/x"), replace(file(b"tmp/x"), mode=0o4755)
    assert against(*GOLDEN, plain, expectations=writes).verdict is Verdict.EXPECTED
    assert against(*GOLDEN, program, expectations=writes).verdict is Verdict.DRIFTED


def test_labels_of_the_host_are_counted_and_not_drift() -> None:
    label = ((b"security.selinux", b"system_u:object_r:container_file_t:s0"),)
    report = against(*[replace(entry, xattrs=label) for entry in GOLDEN])
    assert (report.verdict, report.labels_ignored) == (Verdict.IDENTICAL, len(GOLDEN))


def test_a_difference_names_the_package_of_its_path() -> None:
    golden = [Record(file(b"usr/bin/ssh"), Package("openssh-client", "1:9.2"))]
    report = compare(golden, [file(b"usr/bin/ssh", sha256=B)])
    assert report.drift[0].package == Package("openssh-client", "1:9.2")


def test_more_differences_than_are_kept_are_still_counted() -> None:
    report = against(*[file(b"tmp/%03d" % number) for number in range(50)], golden=[], keep=10)
    assert (len(report.drift), report.drift_total, report.counts) == (10, 50, {Kind.ADDED: 50})


def test_a_stream_that_breaks_gives_no_report() -> None:
    def breaking() -> Iterator[Entry]:
        yield GOLDEN[0]
        raise ConnectionError("engine gone")

    with pytest.raises(ConnectionError):
        compare([Record(entry) for entry in GOLDEN], breaking())


@pytest.mark.parametrize("subject", [[file(b"b"), file(b"a")], [file(b"a"), file(b"a")]])
def test_entries_out_of_order_are_refused(subject: list[Entry]) -> None:
    with pytest.raises(OutOfOrder):
        compare([], subject)


PATHS = st.lists(st.sampled_from([b"a", b"b", b"a-b", b"c"]), min_size=1, max_size=3).map(b"/".join)
TREE = st.dictionaries(PATHS, st.tuples(st.sampled_from([A, B]), st.sampled_from([0o644, 0o755])), max_size=12).map(
    lambda found: sorted((file(p, s, mode=m) for p, (s, m) in found.items()), key=lambda e: canonical_key(e.path))
)


@given(golden=TREE, subject=TREE)
def test_the_merge_finds_what_a_look_at_both_sets_finds(golden: list[Entry], subject: list[Entry]) -> None:
    report = compare([Record(entry) for entry in golden], subject)
    before, after = {e.path: e for e in golden}, {e.path: e for e in subject}
    differing = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {difference.path for difference in report.drift} == differing
    assert (report.verdict is Verdict.IDENTICAL) is (golden == subject)


def test_a_whiteout_name_in_a_container_hides_nothing() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("b", ".wh.b"):
            tar.addfile(tarfile.TarInfo(name))
    assert [entry.path for entry in entries_of_archive(io.BytesIO(out.getvalue()))] == [b".wh.b", b"b"]
