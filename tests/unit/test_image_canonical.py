"""One tree has one encoding: whatever the order, the clock, the archiver and the number of threads."""

import gzip
import hashlib
import io
import itertools
import os
import resource
import subprocess
import tarfile
import tracemalloc
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.image.canonical import EpochInvalid, canonicalise
from builder.image.canonical_rules import RULES, SETTLED, Action, is_engine_path, rule_for
from builder.image.changes import DeviceReserved, NameReserved, diff
from builder.image.digests import EMPTY_SHA256
from builder.image.entry import Entry, EntryType, canonical_key
from builder.image.flatten import flatten
from builder.image.layer import write_layer
from builder.image.tarheader import ArchiveTooLarge
from builder.image.tarstream import ArchiveInvalid, ChunkStream, Limits
from builder.image.tarwriter import tar_stream

EPOCH = 1_700_000_000
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def archive(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return io.BytesIO(out.getvalue())


def layer_of(source: io.BytesIO, directory: Path, epoch: int = EPOCH) -> bytes:
    """The canonical tar, uncompressed."""
    with canonicalise(source, spool_dir=directory, epoch=epoch) as tree:
        return b"".join(tar_stream(tree.entries, tree.contents, epoch=epoch))


SAMPLE = [
    member("./", tarfile.DIRTYPE),
    member("usr", tarfile.DIRTYPE),
    member("usr/bin", tarfile.DIRTYPE),
    member("usr/bin/tool", data=b"\x7fELF" * 1000, mode=0o4755, uname="builder", gname="staff"),
    member("usr/bin/tool-1.0", tarfile.LNKTYPE, linkname="usr/bin/tool"),
    member(
        "usr/bin/ping", data=b"ping", pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}
    ),
    member("usr/bin-local", data=b"sorts after usr/bin/*"),
    member("usr/lien", tarfile.SYMTYPE, linkname="bin/tool", mode=0o644),
    member("usr/na\udcefve", data=b"latin-1 name"),
    member("usr/" + "long/" * 40 + "name", data=b"deep"),
    member("usr/fifo", tarfile.FIFOTYPE),
    member("usr/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
    member("etc/machine-id", data=b"0123456789abcdef0123456789abcdef\n"),
    member("tmp", tarfile.DIRTYPE, mode=0o755),
    member("tmp/left-over", data=b"x"),
    member("var/log/dpkg.log", data=b"2024-01-01 install"),
    member("etc/hostname", data=b"build-host"),
    member(".dockerenv"),
]


@given(order=st.permutations(SAMPLE), times=st.lists(st.integers(0, 2**33), min_size=len(SAMPLE), max_size=len(SAMPLE)))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_neither_order_nor_times_nor_user_names_change_a_byte(
    tmp_path: Path, order: list[tuple[tarfile.TarInfo, bytes]], times: list[int]
) -> None:
    shuffled = []
    for (info, data), time in zip(order, times, strict=True):
        info = info.replace(mtime=time, deep=True)
        shuffled.append((info, data))
    assert layer_of(archive(shuffled), tmp_path) == layer_of(archive(SAMPLE), tmp_path)


def test_the_canonical_form_of_a_canonical_archive_is_itself(tmp_path: Path) -> None:
    once = layer_of(archive(SAMPLE), tmp_path)
    assert layer_of(io.BytesIO(once), tmp_path) == once


def test_this_tree_has_this_digest_and_no_other(tmp_path: Path) -> None:
    """Pins the format: a change here changes the digest of every image that Goldsmith ever built."""
    digest = hashlib.sha256(layer_of(archive(SAMPLE), tmp_path)).hexdigest()
    assert digest == "957cd3a9c095634e9c5720c56cd276011ffd9dcf2a7f93baee6627274d51e29a"


def test_entries_come_as_a_sorted_walk_gives_them(tmp_path: Path) -> None:
    with canonicalise(archive(SAMPLE), spool_dir=tmp_path, epoch=EPOCH) as tree:
        paths = [entry.path for entry in tree.entries]
    assert paths == sorted(paths, key=lambda path: path.split(b"/"))
    assert paths.index(b"usr/bin/tool") < paths.index(b"usr/bin-local")


def test_the_standard_library_reads_the_layer_with_one_time_and_numeric_owners(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer_of(archive(SAMPLE), tmp_path))) as tar:
        members = {info.name: info for info in tar.getmembers()}
    assert {info.mtime for info in members.values()} == {EPOCH}
    assert {(info.uname, info.gname) for info in members.values()} == {("", "")}
    assert members["usr/bin/tool"].mode == 0o4755
    assert members["usr/bin/tool-1.0"].linkname == "usr/bin/tool"
    assert members["usr/bin/ping"].pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape")


def test_contents_of_any_size_come_back(tmp_path: Path) -> None:
    files = {"a": b"1", "b": os.urandom(2_500_000), "c": b"", "d": os.urandom(1024 * 1024), "e": b"2"}
    with canonicalise(archive([member(n, data=d) for n, d in files.items()]), spool_dir=tmp_path, epoch=0) as tree:
        assert {entry.path.decode(): tree.read(entry.path) for entry in tree.entries} == files
        assert [entry.sha256 for entry in tree.entries] == [hashlib.sha256(data).hexdigest() for data in files.values()]


def test_the_records_of_a_header_stand_in_order(tmp_path: Path) -> None:
    xattrs = {"SCHILY.xattr.user.b": "1", "SCHILY.xattr.user.a": "2"}
    link = member("n" * 101, tarfile.SYMTYPE, linkname="t" * 101, uid=2**30, gid=2**30, pax_headers=xattrs)
    with tarfile.open(fileobj=io.BytesIO(layer_of(archive([link]), tmp_path))) as tar:
        keys = list(tar.getmembers()[0].pax_headers)
    assert keys == sorted(keys) == ["SCHILY.xattr.user.a", "SCHILY.xattr.user.b", "gid", "linkpath", "path", "uid"]


def test_of_a_hard_link_group_the_first_name_is_the_file(tmp_path: Path) -> None:
    group = [
        member("z", data=b"one"),
        member("m", tarfile.LNKTYPE, linkname="z"),
        member("a", tarfile.LNKTYPE, linkname="m"),
    ]
    with canonicalise(archive(group), spool_dir=tmp_path, epoch=0) as tree:
        assert [(e.path, e.type, e.target, e.size) for e in tree.entries] == [
            (b"a", EntryType.FILE, None, 3),
            (b"m", EntryType.HARDLINK, b"a", 3),
            (b"z", EntryType.HARDLINK, b"a", 3),
        ]
        assert tree.read(b"z") == tree.read(b"a") == b"one"


def test_a_dropped_name_of_a_hard_link_group_leaves_the_others_their_content(tmp_path: Path) -> None:
    group = [member("run/x", data=b"kept"), member("usr/x", tarfile.LNKTYPE, linkname="run/x")]
    with canonicalise(archive(group), spool_dir=tmp_path, epoch=0) as tree:
        assert tree.read(b"usr/x") == b"kept"
        assert tree.get(b"run/x") is None


def test_emptying_a_log_does_not_empty_the_program_it_is_linked_to(tmp_path: Path) -> None:
    group = [member("bin/sh", data=b"shell"), member("var/log/sh", tarfile.LNKTYPE, linkname="bin/sh")]
    with canonicalise(archive(group), spool_dir=tmp_path, epoch=0) as tree:
        assert tree.read(b"bin/sh") == b"shell"
        log = tree.get(b"var/log/sh")
        assert log is not None
        assert (log.type, log.size, log.sha256) == (EntryType.FILE, 0, EMPTY_SHA256)


@pytest.mark.parametrize(
    ("path", "stays"),
    [
        ("etc/hosts", False), ("etc/hosts.allow", True), ("dev", True), ("dev/null", False), ("tmp/a/b", False),
        ("var/cache/apt/pkgcache.bin", False), ("var/cache/apt/sub/pkgcache.bin", True),
        ("var/cache/apt/archives/x.deb", False), ("var/lib/apt/lists/x", False), ("etc/passwd-", False),
        ("etc/passwd", True), ("var/lib/dpkg/status-old", False), ("var/lib/dpkg/status", True),
        ("var/log/nginx", True), ("usr/lib/x/__pycache__/y.pyc", True), ("var/log/apt/term.log", False),
        ("etc/ssh/ssh_host_ed25519_key", False), ("etc/ssh/sshd_config", True), ("opt/dev/null", True),
    ],
)  # fmt: skip
def test_the_table_drops_what_it_says_and_nothing_beside_it(tmp_path: Path, path: str, stays: bool) -> None:
    with canonicalise(archive([member(path, data=b"x")]), spool_dir=tmp_path, epoch=0) as tree:
        assert (tree.get(path.encode()) is not None) is stays


def test_every_row_of_the_table_has_a_reason_and_can_be_reached() -> None:
    assert all(row.what and row.form and row.reason for row in SETTLED)
    for rule in RULES:
        assert rule.reason
        if rule.action is not Action.XATTR:
            path = rule.pattern.replace("/**", "/below").replace("*", "x").encode()
            kind = EntryType.SYMLINK if rule.target else EntryType.FILE
            assert rule_for(Entry(path, kind, 0, 0, 0, target=rule.target)) is rule


def test_a_mount_table_of_the_image_itself_is_kept(tmp_path: Path) -> None:
    own = archive([member("etc/mtab", tarfile.SYMTYPE, linkname="../proc/self/mounts")])
    with canonicalise(own, spool_dir=tmp_path, epoch=0) as tree:
        assert tree.get(b"etc/mtab") is not None
    engines = archive([member("etc/mtab", tarfile.SYMTYPE, linkname="/proc/mounts")])
    with canonicalise(engines, spool_dir=tmp_path, epoch=0) as tree:
        assert tree.get(b"etc/mtab") is None


def test_world_writable_directories_get_their_sticky_bit_back(tmp_path: Path) -> None:
    with canonicalise(archive(SAMPLE), spool_dir=tmp_path, epoch=0) as tree:
        tmp = tree.get(b"tmp")
        assert tmp is not None
        assert tmp.mode == 0o1777


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([member("a"), member("a")], "/a is in the archive twice"),
        ([member("a", tarfile.LNKTYPE, linkname="b")], "/b, which is not in the archive"),
        ([member("a", tarfile.LNKTYPE, linkname="b"), member("b", tarfile.LNKTYPE, linkname="a")], "back to itself"),
        ([member("a", tarfile.DIRTYPE), member("b", tarfile.LNKTYPE, linkname="a")], "to a directory"),
        (
            [member("a", tarfile.SYMTYPE, linkname="/etc"), member("a/passwd")],
            "/a/passwd lies below /a, which is a symlink",
        ),
        ([member("a"), member("a/b/c")], "lies below /a, which is a file"),
    ],
)
def test_a_tree_that_cannot_be_is_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], says: str
) -> None:
    with pytest.raises(ArchiveInvalid, match=says):
        canonicalise(archive(members), spool_dir=tmp_path, epoch=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".wh.a", "usr/.wh.a", "usr/.wh..wh..opq", "usr/.wh.d/file"])
def test_names_that_an_engine_would_take_for_whiteouts_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NameReserved, match="rename the file"):
        canonicalise(archive([member(name)]), spool_dir=tmp_path, epoch=0)


def test_the_device_that_overlayfs_takes_for_a_deleted_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceReserved, match="/usr/mark is the character device 0:0"):
        canonicalise(archive([member("usr/mark", tarfile.CHRTYPE)]), spool_dir=tmp_path, epoch=0)
    with canonicalise(archive([member("dev/mark", tarfile.CHRTYPE)]), spool_dir=tmp_path, epoch=0) as tree:
        assert tree.entries == ()


def test_each_name_of_a_file_carries_its_capabilities(tmp_path: Path) -> None:
    """An engine that links a name sets its owner anew, for which the kernel takes capabilities away."""
    capability = {"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}
    group = [member("z", data=b"1", pax_headers=capability), member("a", tarfile.LNKTYPE, linkname="z")]
    with tarfile.open(fileobj=io.BytesIO(layer_of(archive(group), tmp_path))) as tar:
        assert [(info.name, info.pax_headers) for info in tar] == [("a", capability), ("z", capability)]


def test_an_empty_extended_attribute_is_none(tmp_path: Path) -> None:
    both = archive([member("a", pax_headers={"SCHILY.xattr.user.empty": "", "SCHILY.xattr.user.full": "1"})])
    with canonicalise(both, spool_dir=tmp_path, epoch=0) as tree:
        assert tree.entries[0].xattrs == ((b"user.full", b"1"),)


def test_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    entry = Entry(b"a", EntryType.FILE, 0o644, 0, 0, size=64 * 1024 * 1024)
    source = ChunkStream(tar_stream([entry], lambda _: itertools.repeat(bytes(1024 * 1024), 64), epoch=0))
    tracemalloc.start()
    try:
        with canonicalise(source, spool_dir=tmp_path, epoch=0) as tree:
            tree.write_layer(tmp_path / "layer", threads=1)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_full_disk_is_an_error_and_never_a_short_image(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            canonicalise(archive([member("a", data=data)]), spool_dir=tmp_path, epoch=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_edit_holds_for_all_names_of_a_file(tmp_path: Path) -> None:
    group = [member("a", data=b"1", mode=0o4755), member("b", tarfile.LNKTYPE, linkname="a"), member("doc/x", data=b"")]

    def edit(entry: Entry) -> Entry | None:
        if entry.path.startswith(b"doc/"):
            return None
        return replace(entry, mode=0o755) if entry.path == b"a" else entry

    with canonicalise(archive(group), spool_dir=tmp_path, epoch=0, edit=edit) as tree:
        assert [(entry.path, entry.mode) for entry in tree.entries] == [(b"a", 0o755), (b"b", 0o755)]


def test_a_time_that_tar_cannot_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EpochInvalid):
        canonicalise(archive([]), spool_dir=tmp_path, epoch=-1)


# Compression


def test_threads_and_pieces_do_not_change_the_layer(tmp_path: Path) -> None:
    data = os.urandom(700_000) * 5 + bytes(3_000_000)
    cuts = [[data], [data[i : i + 4093] for i in range(0, len(data), 4093)]]
    written = [
        write_layer(pieces, tmp_path / f"{number}-{threads}", threads=threads)
        for number, pieces in enumerate(cuts)
        for threads in (1, 2, 5)
    ]
    assert len({(layer.digest, layer.diff_id, layer.size) for layer in written}) == 1
    assert gzip.decompress(written[0].path.read_bytes()) == data
    assert written[0].diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert written[0].digest == f"sha256:{hashlib.sha256(written[0].path.read_bytes()).hexdigest()}"


def test_the_compressor_gives_the_bytes_it_has_always_given(tmp_path: Path) -> None:
    """Fails where a CPU or a version of the library would give a layer another digest."""
    data = b"".join(b"line %d of a file that compresses\n" % (n * n % 9973) for n in range(60_000))
    pinned = "sha256:9fecea75b0946aabd9c60db5954309c33d5bc30dd450db57c5623084be5465a9"
    assert write_layer([data], tmp_path / "layer").digest == pinned
    whole = "sha256:9d5c6157cca2e67ccf4e0a94f5616724e0910c77aea804a22fcbd0a64dad8397"
    assert write_layer([b"a" * 2 * 1024 * 1024], tmp_path / "whole").digest == whole


def test_a_layer_that_could_not_be_finished_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield bytes(5_000_000)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_layer(broken(), tmp_path / "layer")  # type: ignore[arg-type]
    assert not (tmp_path / "layer").exists()


def test_gnu_gzip_accepts_the_layer(tmp_path: Path) -> None:
    layer = write_layer([b"a" * 3_000_000], tmp_path / "layer.gz")
    subprocess.run(["gzip", "-t", layer.path], check=True)
    assert layer.path.read_bytes()[4:8] == bytes(4)
    assert zlib.decompressobj(31).decompress(layer.path.read_bytes()) == b"a" * 3_000_000


# Changes

NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
CONTENT = st.sampled_from([b"", b"x", b"y"])
NODE = st.one_of(
    st.tuples(st.just("file"), CONTENT, st.sampled_from([0o644, 0o755])),
    st.tuples(st.just("symlink"), st.just(b"/a"), st.just(0o777)),
    st.tuples(st.just("link"), st.integers(0, 20), st.just(0)),
)
DIRECTORY = st.recursive(
    st.dictionaries(NAMES, NODE, max_size=3),
    lambda inner: st.dictionaries(NAMES, NODE | inner, max_size=4),
    max_leaves=12,
)


def as_archive(root: dict[bytes, object]) -> io.BytesIO:
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    links: list[tuple[str, int]] = []
    files: list[str] = []

    def walk(prefix: str, directory: dict[bytes, object]) -> None:
        for name, node in directory.items():
            path = prefix + name.decode()
            if isinstance(node, dict):
                members.append(member(path, tarfile.DIRTYPE, mode=0o700 if len(node) % 2 else 0o755))
                walk(path + "/", node)
            else:
                assert isinstance(node, tuple)
                if node[0] == "file":
                    members.append(member(path, data=node[1], mode=node[2]))
                    files.append(path)
                elif node[0] == "symlink":
                    members.append(member(path, tarfile.SYMTYPE, linkname="/a"))
                else:
                    links.append((path, node[1]))

    walk("", root)
    if files:
        members += [member(path, tarfile.LNKTYPE, linkname=files[pick % len(files)]) for path, pick in links]
    return archive(members)


@given(before=DIRECTORY, after=DIRECTORY)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_base_and_its_changes_make_the_tree(
    tmp_path: Path, before: dict[bytes, object], after: dict[bytes, object]
) -> None:
    base_layer = layer_of(as_archive(before), tmp_path)
    base = flatten([io.BytesIO(base_layer)])
    with canonicalise(as_archive(after), spool_dir=tmp_path, epoch=EPOCH) as tree:
        changes = diff(base, tree.entries)
        child = b"".join(tar_stream(changes.layer_entries, tree.contents, epoch=EPOCH))
        assert flatten([io.BytesIO(base_layer), io.BytesIO(child)]) == tree.entries
        assert bool(changes) is (base != tree.entries)


def entries(*members: tuple[tarfile.TarInfo, bytes]) -> tuple[Entry, ...]:
    return flatten([archive(members)])


def written(base: Sequence[Entry], tree: Sequence[Entry]) -> list[bytes]:
    return [entry.path for entry in diff(base, tree).layer_entries]


def test_a_change_takes_the_directories_above_it_along() -> None:
    base = entries(member("root", tarfile.DIRTYPE, mode=0o700), member("root/a", data=b"1"), member("z", data=b"1"))
    tree = entries(member("root", tarfile.DIRTYPE, mode=0o700), member("root/a", data=b"2"), member("z", data=b"1"))
    assert written(base, tree) == [b"root", b"root/a"]
    assert diff(base, tree).layer_entries[0].mode == 0o700


def test_one_changed_name_writes_its_whole_hard_link_group() -> None:
    base = entries(member("a", data=b"1"), member("b", tarfile.LNKTYPE, linkname="a"))
    tree = entries(
        member("a", data=b"1"), member("b", tarfile.LNKTYPE, linkname="a"), member("c", tarfile.LNKTYPE, linkname="a")
    )
    assert written(base, tree) == [b"a", b"b", b"c"]


def test_a_removed_directory_is_one_whiteout_and_engine_files_get_none() -> None:
    base = entries(member("opt/x/y", data=b"1"), member("etc/hosts", data=b"127.0.0.1"), member("etc/a", data=b"1"))
    tree = entries(member("etc/a", data=b"1"))
    assert diff(base, tree).removed == (b"opt",)
    assert written(base, tree) == [b".wh.opt"]
    assert is_engine_path(b"etc/hosts")


def test_a_file_in_place_of_a_directory_needs_no_whiteout_and_back() -> None:
    directory = entries(member("a/b/c", data=b"1"))
    file = entries(member("a", data=b"1"))
    assert written(directory, file) == [b"a"]
    assert written(file, directory) == [b"a", b"a/b", b"a/b/c"]


def test_the_longest_name_can_be_removed() -> None:
    base = archive([member("n" * 255, data=b"1"), member("z", data=b"1")])
    tree = entries(member("z", data=b"1"))
    child = b"".join(tar_stream(diff(flatten([base]), tree).layer_entries, lambda _: iter([]), epoch=0))
    assert flatten([io.BytesIO(base.getvalue()), io.BytesIO(child)]) == tree


def test_modification_times_are_no_change() -> None:
    old = entries(member("a", data=b"1", mtime=5))
    new = entries(member("a", data=b"1", mtime=7))
    assert not diff(old, new)


# Layers made elsewhere


def test_whiteouts_hide_lower_layers_and_never_their_own() -> None:
    lower = archive([member("d/old", data=b"1"), member("d/gone", data=b"1"), member("keep", data=b"1")])
    upper = archive([member("d/new", data=b"2"), member("d/.wh..wh..opq"), member(".wh.nothing")])
    assert [e.path for e in flatten([lower, upper])] == [b"d", b"d/new", b"keep"]


def test_a_hard_link_keeps_its_content_when_its_first_name_is_replaced_later() -> None:
    lower = archive([member("a", data=b"old"), member("b", tarfile.LNKTYPE, linkname="a")])
    upper = archive([member("a", data=b"new")])
    found = {e.path: e for e in flatten([lower, upper])}
    assert found[b"b"].sha256 == hashlib.sha256(b"old").hexdigest()
    assert found[b"b"].type is EntryType.FILE


def test_a_hard_link_into_a_lower_layer_is_followed() -> None:
    lower = archive([member("a", data=b"1")])
    upper = archive([member("b", tarfile.LNKTYPE, linkname="a")])
    assert {e.path: e.target for e in flatten([lower, upper])} == {b"a": None, b"b": b"a"}


def test_the_number_of_entries_is_limited_for_all_layers_together() -> None:
    layers = [[member("a"), member("b")], [member("c"), member("d")]]
    assert len(flatten(map(archive, layers), Limits(max_entries=4))) == 4
    with pytest.raises(ArchiveTooLarge):
        flatten(map(archive, layers), Limits(max_entries=3))


# Independent unpackers


def test_gnu_tar_unpacks_the_layer_to_the_same_tree(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(layer_of(archive(SAMPLE), tmp_path))
    target = tmp_path / "out"
    target.mkdir()
    subprocess.run(
        ["tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-pf", layer, "-C", target],
        check=True, capture_output=True,
    )  # fmt: skip
    tool, ping = target / "usr/bin/tool", target / "usr/bin/ping"
    assert tool.stat().st_mode & 0o7777 == 0o4755
    assert tool.stat().st_ino == (target / "usr/bin/tool-1.0").stat().st_ino
    assert os.getxattr(ping, "security.capability") == CAPABILITY
    assert (target / ("usr/" + "long/" * 40 + "name")).read_bytes() == b"deep"
    assert (target / "usr/na\udcefve").stat().st_mtime == EPOCH
    assert (target / "usr/null").stat().st_rdev == os.makedev(1, 3)
    assert (target / "tmp").stat().st_mode & 0o7777 == 0o1777
    packed = subprocess.run(
        ["tar", "--create", "--xattrs", "--xattrs-include=*", "--format=pax", "-C", target, "."],
        check=True, capture_output=True,
    )  # fmt: skip
    assert layer_of(io.BytesIO(packed.stdout), tmp_path) == layer.read_bytes()


def test_chunks_of_any_size_are_a_stream() -> None:
    stream = ChunkStream([b"", b"ab", b"c", b"", b"defg"])
    assert [stream.read(3) for _ in range(4)] == [b"ab", b"c", b"def", b"g"]
    assert stream.read(1) == b""


def test_names_sort_by_component() -> None:
    names = [b"a-b", b"a", b"a/b", b"a.b", b"a/b-c", b"a/b/c"]
    assert sorted(names, key=canonical_key) == [b"a", b"a/b", b"a/b/c", b"a/b-c", b"a-b", b"a.b"]


def test_content_that_is_shorter_than_announced_is_never_written(tmp_path: Path) -> None:
    entry = Entry(b"a", EntryType.FILE, 0o644, 0, 0, size=5)
    with pytest.raises(Exception, match="/a has 3 bytes where 5 were announced"):
        write_layer(tar_stream([replace(entry)], lambda _: iter([b"abc"]), epoch=0), tmp_path / "layer")
