"""A comparison finds every difference, names it, and excuses only what an engine writes itself."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.forensics import gravest, moves
from builder.forensics.compare import OutOfOrder, compare
from builder.forensics.expected import Expectation, expected_reason
from builder.forensics.findings import Difference, Finding, Kind, Outcome, Severity, Verdict, verdict_of
from builder.forensics.weight import weight
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


def judge(difference: Difference) -> Finding:
    return Finding(difference, Severity.MEDIUM, "any", "it differs")


def against(
    *subject: Entry, golden: list[Entry] = GOLDEN, expectations: Sequence[Expectation] = (), **options: object
) -> Outcome:
    def expecting(one: Difference) -> Finding:
        return replace(judge(one), expected=expected_reason(one.path, one.golden, one.subject, expectations))

    ordered = sorted(subject, key=lambda entry: canonical_key(entry.path))
    return compare([Record(entry) for entry in golden], ordered, **{"judge": expecting, **options})  # type: ignore[arg-type]


def named(outcome: Outcome) -> list[tuple[bytes, tuple[Kind, ...]]]:
    return [(one.difference.path, one.difference.kinds) for one in outcome.findings]


def changed(path: bytes, **fields: object) -> list[Entry]:
    return [replace(entry, **fields) if entry.path == path else entry for entry in GOLDEN]  # type: ignore[arg-type]


def test_the_same_tree_is_identical() -> None:
    report = against(*GOLDEN)
    assert (verdict_of(report), report.golden_entries, report.subject_entries) == (Verdict.IDENTICAL, 9, 9)


def test_what_the_engine_adds_is_expected_listed_and_counted() -> None:
    report = against(*GOLDEN, *ENGINE)
    assert verdict_of(report) is Verdict.EXPECTED
    assert {one.difference.path for one in report.expected} == {entry.path for entry in ENGINE}
    assert (report.expected_total, report.findings_total, report.by_kind) == (len(ENGINE), 0, {})


@pytest.mark.parametrize(
    ("subject", "path", "kinds"),
    [
        ([*GOLDEN, file(b"tmp/x", B)], b"tmp/x", (Kind.ADDED,)),
        (GOLDEN[:-1], b"usr/s", (Kind.REMOVED,)),
        (changed(b"etc/conf", sha256=B), b"etc/conf", (Kind.CONTENT,)),
        (changed(b"etc/conf", mode=0o4755), b"etc/conf", (Kind.MODE,)),
        (changed(b"etc/conf", mode=0o600, uid=5), b"etc/conf", (Kind.MODE, Kind.OWNER)),
        (changed(b"etc/conf", gid=5), b"etc/conf", (Kind.OWNER,)),
        (changed(b"etc/conf", xattrs=((b"security.capability", b"x"),)), b"etc/conf", (Kind.CAPABILITY,)),
        (changed(b"etc/conf", xattrs=((b"user.x", b"x"),)), b"etc/conf", (Kind.XATTR,)),
        (changed(b"usr/s", target=b"/etc"), b"usr/s", (Kind.LINK,)),
        (changed(b"usr/b", type=EntryType.FILE, target=None), b"usr/b", (Kind.LINK,)),
        (changed(b"usr/b", type=EntryType.FILE, target=None, sha256=B), b"usr/b", (Kind.CONTENT, Kind.LINK)),
        (changed(b"usr/s", type=EntryType.FIFO, target=None), b"usr/s", (Kind.TYPE,)),
    ],
)
def test_each_difference_is_named(subject: list[Entry], path: bytes, kinds: tuple[Kind, ...]) -> None:
    report = against(*subject)
    assert verdict_of(report) is Verdict.DRIFTED
    assert named(report) == [(path, kinds)]
    assert report.by_kind == dict.fromkeys(kinds, 1)


def test_another_device_is_a_difference() -> None:
    null = Entry(b"x", EntryType.CHARACTER, 0o666, 0, 0, device=(1, 3))
    report = against(replace(null, device=(1, 1)), golden=[null])
    assert named(report) == [(b"x", (Kind.DEVICE,))]


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
    assert verdict_of(against(*GOLDEN, intruder)) is Verdict.DRIFTED


def test_directories_made_for_mounts_are_expected_in_an_image_without_them() -> None:
    report = against(directory(b"dev"), directory(b"etc"), directory(b"proc"), directory(b"sys"), golden=[])
    assert verdict_of(report) is Verdict.EXPECTED
    assert verdict_of(against(directory(b"home"), golden=[])) is Verdict.DRIFTED


def test_a_recipe_can_expect_more_and_its_reason_is_told() -> None:
    pids = [Expectation("run/*.pid", "the service's process id")]
    report = against(*GOLDEN, file(b"run/app.pid"), expectations=pids)
    assert verdict_of(report) is Verdict.EXPECTED
    assert report.expected[0].expected == "the service's process id"
    assert verdict_of(against(*GOLDEN, file(b"run/a/b.pid"), expectations=pids)) is Verdict.DRIFTED


def test_a_set_uid_program_is_drift_even_where_writes_are_expected() -> None:
    writes = [Expectation("tmp/**", "the recipe says so")]
    plain, program = file(b"tmp/x"), replace(file(b"tmp/x"), mode=0o4755)
    assert verdict_of(against(*GOLDEN, plain, expectations=writes)) is Verdict.EXPECTED
    assert verdict_of(against(*GOLDEN, program, expectations=writes)) is Verdict.DRIFTED


def test_a_moved_file_is_one_difference_with_both_its_places() -> None:
    moved = replace(GOLDEN[2], path=b"tmp/hidden")
    outcome = against(*GOLDEN[:2], *GOLDEN[3:], moved)
    [finding] = outcome.findings
    assert finding.difference == Difference(b"tmp/hidden", (Kind.MOVED,), GOLDEN[2], moved, moved_from=b"etc/conf")
    assert outcome.by_kind == {Kind.MOVED: 1}


def test_a_move_the_other_way_round_names_what_else_changed_and_the_package() -> None:
    before, package = file(b"usr/bin/tool"), Package("tools", "1")
    outcome = compare([Record(before, package)], [file(b"bin/tool", mode=0o4755, uid=5)], judge=judge)
    assert named(outcome) == [(b"bin/tool", (Kind.MOVED, Kind.MODE, Kind.OWNER))]
    assert outcome.findings[0].difference.package == package


def test_a_moved_group_of_hard_links_moves_name_by_name() -> None:
    def group(one: bytes, two: bytes) -> list[Entry]:
        return [file(one), replace(file(two), type=EntryType.HARDLINK, target=one)]

    outcome = against(*group(b"x", b"y"), golden=group(b"a", b"b"))
    assert [(one.difference.moved_from, one.difference.path) for one in outcome.findings] == [
        (b"a", b"x"),
        (b"b", b"y"),
    ]
    assert outcome.by_kind == {Kind.MOVED: 2}


@pytest.mark.parametrize(
    ("gone", "new"),
    [
        (file(b"a", size=0), file(b"b", size=0)),
        (
            Entry(b"a", EntryType.SYMLINK, 0o777, 0, 0, target=b"x"),
            Entry(b"b", EntryType.SYMLINK, 0o777, 0, 0, target=b"x"),
        ),
        (directory(b"a"), directory(b"b")),
        (file(b"a", A), file(b"b", B)),
    ],
)
def test_what_has_no_content_in_common_did_not_move(gone: Entry, new: Entry) -> None:
    assert named(against(new, golden=[gone])) == [(b"a", (Kind.REMOVED,)), (b"b", (Kind.ADDED,))]


def test_a_copy_beside_its_original_is_added() -> None:
    assert named(against(*GOLDEN, file(b"tmp/x"))) == [(b"tmp/x", (Kind.ADDED,))]


def test_more_moves_than_can_be_remembered_are_told_as_removed_and_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "_MOST_WEIGHT", 2 * weight(file(b"a0")))
    golden = [file(b"a%d" % number, f"{number:064x}") for number in range(4)]
    outcome = against(*(replace(entry, path=b"b" + entry.path) for entry in golden), golden=golden)
    assert outcome.by_kind == {Kind.MOVED: 2, Kind.REMOVED: 2, Kind.ADDED: 2}


def test_a_directory_in_place_of_a_file_and_back_names_each_path_once() -> None:
    tree = [directory(b"d"), file(b"d/x", A), file(b"d/y", A)]
    assert named(against(file(b"d", B), golden=tree)) == [
        (b"d", (Kind.TYPE,)), (b"d/x", (Kind.REMOVED,)), (b"d/y", (Kind.REMOVED,)),
    ]  # fmt: skip
    assert named(against(*tree, golden=[file(b"d", B)])) == [
        (b"d", (Kind.TYPE,)), (b"d/x", (Kind.ADDED,)), (b"d/y", (Kind.ADDED,)),
    ]  # fmt: skip


@given(st.lists(st.sampled_from(Severity), max_size=60), st.integers(0, 7))
def test_the_gravest_findings_are_kept_gravest_first(severities: list[Severity], keep: int) -> None:
    subject = [file(b"%03d" % number) for number in range(len(severities))]
    outcome = compare([], subject, judge=lambda one: replace(judge(one), severity=severities[int(one.path)]), keep=keep)
    kept = [(one.severity, int(one.difference.path)) for one in outcome.findings]
    every = [(severity, number) for number, severity in enumerate(severities)]
    assert kept == sorted(every, key=lambda one: (-one[0], one[1]))[:keep]
    assert (outcome.findings_total, outcome.by_severity) == (len(every), Counter(severities))


def test_findings_with_large_attributes_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gravest, "_MOST_WEIGHT", 99_000)
    large = ((b"user.large", bytes(9_000)),)
    outcome = against(*[file(b"%03d" % number, xattrs=large) for number in range(100)], golden=[])
    assert (len(outcome.findings), outcome.findings_total) == (10, 100)


def test_labels_of_the_host_are_counted_and_not_drift() -> None:
    label = ((b"security.selinux", b"system_u:object_r:container_file_t:s0"),)
    report = against(*[replace(entry, xattrs=label) for entry in GOLDEN])
    assert (verdict_of(report), report.labels_ignored) == (Verdict.IDENTICAL, len(GOLDEN))


def test_a_difference_names_the_package_of_its_path() -> None:
    golden = [Record(file(b"usr/bin/ssh"), Package("openssh-client", "1:9.2"))]
    report = compare(golden, [file(b"usr/bin/ssh", sha256=B)], judge=judge)
    assert report.findings[0].difference.package == Package("openssh-client", "1:9.2")


def test_more_differences_than_are_kept_are_still_counted() -> None:
    report = against(*[file(b"tmp/%03d" % number) for number in range(50)], golden=[], keep=10)
    assert (len(report.findings), report.findings_total, report.by_kind) == (10, 50, {Kind.ADDED: 50})


def test_a_stream_that_breaks_gives_no_report() -> None:
    def breaking() -> Iterator[Entry]:
        yield GOLDEN[0]
        raise ConnectionError("engine gone")

    with pytest.raises(ConnectionError):
        compare([Record(entry) for entry in GOLDEN], breaking(), judge=judge)


@pytest.mark.parametrize("subject", [[file(b"b"), file(b"a")], [file(b"a"), file(b"a")]])
def test_entries_out_of_order_are_refused(subject: list[Entry]) -> None:
    with pytest.raises(OutOfOrder):
        compare([], subject, judge=judge)


PATHS = st.lists(st.sampled_from([b"a", b"b", b"a-b", b"c"]), min_size=1, max_size=3).map(b"/".join)
TREE = st.dictionaries(PATHS, st.tuples(st.sampled_from([A, B]), st.sampled_from([0o644, 0o755])), max_size=12).map(
    lambda found: sorted((file(p, s, mode=m) for p, (s, m) in found.items()), key=lambda e: canonical_key(e.path))
)


@given(golden=TREE, subject=TREE)
def test_the_merge_finds_what_a_look_at_both_sets_finds(golden: list[Entry], subject: list[Entry]) -> None:
    outcome = compare([Record(entry) for entry in golden], subject, judge=judge)
    before, after = {e.path: e for e in golden}, {e.path: e for e in subject}
    differing = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    differences = [one.difference for one in outcome.findings]
    moved = [one.moved_from for one in differences if one.moved_from is not None]
    assert sorted([*(one.path for one in differences), *moved]) == sorted(differing)
    assert (verdict_of(outcome) is Verdict.IDENTICAL) is (golden == subject)
    # Of each content as many moves as there are pairs to be had.
    gone = Counter(before[path].sha256 for path in before.keys() - after.keys())
    new = Counter(after[path].sha256 for path in after.keys() - before.keys())
    assert Counter(before[path].sha256 for path in moved) == gone & new
