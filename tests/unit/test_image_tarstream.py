"""Archives of every dialect are read, and whatever is wrong with one is an error: never the end, never a crash."""

import io
import os
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builder.errors import GoldsmithError
from builder.image.entry import Entry, EntryType, shown
from builder.image.tarheader import parse_pax
from builder.image.tarstream import ArchiveInvalid, ArchiveTooLarge, Limits, read_tar
from builder.image.tarwriter import encode_header, tar_stream


def read(data: bytes, limits: Limits | None = None) -> list[tuple[Entry, bytes]]:
    return [(entry, b"".join(content)) for entry, content in read_tar(io.BytesIO(data), limits)]


def gnu_tar(directory: Path, *options: str) -> bytes:
    command = ["tar", "--create", "--sort=name", *options, "-C", str(directory), "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "d/file").write_bytes(b"content" * 1000)
    (root / "d/empty").touch()
    (root / "d/link").symlink_to("file")
    os.link(root / "d/file", root / "d/other")
    os.mkfifo(root / "fifo")
    (root / "n\udcefve").write_bytes(b"latin-1")
    with (root / "sparse").open("wb") as sparse:
        for at in range(30):
            sparse.seek(at * 100_000)
            sparse.write(b"%d" % at * 100)
        sparse.truncate(5_000_000)
    return root


@pytest.mark.parametrize(
    "options",
    [
        ["--format=v7"], ["--format=oldgnu"], ["--format=gnu"], ["--format=ustar"], ["--format=posix"],
        ["--format=gnu", "--sparse"], ["--format=posix", "--sparse", "--sparse-version=0.0"],
        ["--format=posix", "--sparse", "--sparse-version=0.1"], ["--format=posix", "--sparse", "--sparse-version=1.0"],
        ["--format=posix", "--blocking-factor=1"], ["--format=posix", "--absolute-names"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_format_of_gnu_tar_gives_the_same_tree(tree: Path, options: list[str]) -> None:
    if "--format=v7" in options:
        (tree / "fifo").unlink()
    found = {entry.path: (entry, data) for entry, data in read(gnu_tar(tree, *options))}
    assert set(found) == {
        b"d", b"d/file", b"d/empty", b"d/link", b"d/other", b"n\xefve", b"sparse",
        *([b"fifo"] if (tree / "fifo").exists() else []),
    }  # fmt: skip
    assert found[b"d/file"][1] == b"content" * 1000
    assert found[b"d/link"][0].target == b"file"
    assert (found[b"d/other"][0].type, found[b"d/other"][0].target) == (EntryType.HARDLINK, b"d/file")
    assert found[b"sparse"][1] == (tree / "sparse").read_bytes()
    assert found[b"sparse"][0].size == 5_000_000


@pytest.mark.parametrize("kind", ["gnu", "posix"])
def test_names_longer_than_a_header_can_hold_are_read(tmp_path: Path, kind: str) -> None:
    deep = tmp_path / "tree" / "/".join(["d" * 60] * 8)
    deep.mkdir(parents=True)
    (deep / ("f" * 200)).touch()
    (tmp_path / "tree" / "s").symlink_to("t" * 300)
    found = {entry.path: entry for entry, _ in read(gnu_tar(tmp_path / "tree", f"--format={kind}"))}
    assert ("/".join(["d" * 60] * 8) + "/" + "f" * 200).encode() in found
    assert found[b"s"].target == b"t" * 300


def test_binary_attributes_come_through_bit_by_bit(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    value = bytes(range(256))
    (tmp_path / "tree/f").touch()
    os.setxattr(tmp_path / "tree/f", "user.all", value)
    os.setxattr(tmp_path / "tree/f", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    ((entry, _),) = read(gnu_tar(tmp_path / "tree", "--xattrs", "--xattrs-include=*", "--format=posix"))
    assert dict(entry.xattrs)[b"user.all"] == value
    assert set(dict(entry.xattrs)) == {b"user.all", b"security.capability"}


def test_content_nobody_reads_is_skipped(tree: Path) -> None:
    stream = io.BytesIO(gnu_tar(tree, "--format=gnu", "--sparse"))
    assert len([entry for entry, _ in read_tar(stream)]) == 8


def test_an_archive_cut_off_anywhere_is_an_error(tree: Path) -> None:
    data = gnu_tar(tree, "--format=posix", "--sparse", "--blocking-factor=1")
    for length in [*range(0, len(data) - 1024, 256), len(data) - 1024, len(data) - 513, len(data) - 512, len(data) - 1]:
        with pytest.raises(ArchiveInvalid, match="ends in the middle"):
            read(data[:length])


def test_a_damaged_header_is_not_taken_for_the_end(tree: Path) -> None:
    data = bytearray(gnu_tar(tree, "--format=posix", "--blocking-factor=1"))
    second = data.index(b"./d/")
    data[second] ^= 1
    with pytest.raises(ArchiveInvalid, match="checksum"):
        read(bytes(data))


SMALL = b"".join(
    tar_stream(
        [
            Entry(b"a", EntryType.FILE, 0o644, 0, 0, size=5, xattrs=((b"user.x", b"\xff\0="),)),
            Entry(b"b", EntryType.HARDLINK, 0o644, 0, 0, target=b"a"),
            Entry(b"l" * 200 + b"/" + b"k" * 200, EntryType.SYMLINK, 0o777, 0, 0, target=b"t"),
        ],
        lambda _: iter([b"12345"]),
        epoch=0,
    )
)


@given(changes=st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
@example(changes=[(156, 0x4B)])
def test_no_change_of_bytes_makes_the_reader_crash(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for position, byte in changes:
        data[position] = byte
    # A header's checksum is put right again, so that the fields behind it are reached.
    for start in {position - position % 512 for position, _ in changes}:
        block = bytes(data[start : start + 148]) + b" " * 8 + bytes(data[start + 156 : start + 512])
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    # Anything but these two would fail the test.
    with suppress(ArchiveInvalid, ArchiveTooLarge):
        read(bytes(data), Limits(max_bytes=10_000_000))


@given(st.binary(max_size=2048))
def test_noise_is_no_archive(noise: bytes) -> None:
    with pytest.raises(GoldsmithError):
        read(noise.ljust(512, b"x"))


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=30).filter(lambda key: b"=" not in key), st.binary(max_size=120)),
        max_size=8,
    )
)
def test_pax_records_are_read_as_they_were_written(records: list[tuple[bytes, bytes]]) -> None:
    data = b""
    for key, value in records:
        rest = len(key) + len(value) + 3
        length = next(n for n in range(rest, rest + 10) if n == rest + len(str(n)))
        data += b"%d %s=%s\n" % (length, key, value)
    assert parse_pax(data) == records


NAME = st.binary(min_size=1, max_size=120).filter(lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b".."))
ID = st.integers(0, 2**32 - 1)


@given(
    names=st.lists(NAME, min_size=1, max_size=6),
    mode=st.integers(0, 0o7777),
    uid=ID,
    gid=ID,
    xattrs=st.dictionaries(
        st.text("abc.", min_size=1, max_size=9).map(str.encode), st.binary(min_size=1, max_size=700), max_size=3
    ),
    kind=st.sampled_from(EntryType),
    target=st.binary(min_size=1, max_size=300).filter(
        lambda t: b"\0" not in t and b"/" not in t and t not in (b".", b"..")
    ),
    data=st.binary(max_size=1500),
)
@settings(max_examples=300, deadline=None)
def test_every_entry_comes_back_as_it_was_written(
    names: list[bytes],
    mode: int,
    uid: int,
    gid: int,
    xattrs: dict[bytes, bytes],
    kind: EntryType,
    target: bytes,
    data: bytes,
) -> None:
    links = kind in (EntryType.SYMLINK, EntryType.HARDLINK)
    if kind is EntryType.HARDLINK:
        target = target[:255]
    entry = Entry(
        b"/".join(names), kind, mode, uid, gid,
        size=len(data) if kind is EntryType.FILE else 0,
        target=target if links else None,
        device=(8, 1) if kind in (EntryType.BLOCK, EntryType.CHARACTER) else None,
        xattrs=tuple(sorted(xattrs.items())),
    )  # fmt: skip
    written = b"".join(tar_stream([entry], lambda _: iter([data]), epoch=7))
    assert read(written) == [(entry, data if kind is EntryType.FILE else b"")]
    with tarfile.open(fileobj=io.BytesIO(written), errors="surrogateescape") as tar:
        (info,) = tar.getmembers()
    # The standard library looks for text in PAX values first; bytes that are no UTF-8 come back escaped.
    assert os.fsencode(info.name) == entry.path
    assert (info.mode, info.uid, info.gid, info.size, info.mtime) == (mode, uid, gid, entry.size, 7)


def with_header(entry: Entry, data: bytes = b"") -> bytes:
    return encode_header(entry, 0) + data + bytes(-len(data) % 512) + bytes(1024)


def raw(
    name: bytes, kind: bytes = b"0", size: bytes = b"00000000000", link: bytes = b"", mode: bytes = b"0000644"
) -> bytes:
    block = (
        name.ljust(100, b"\0") + mode + b"\0" + b"0000000\0" * 2 + size.ljust(12, b"\0") + b"00000000000\0"
        + b" " * 8 + kind + link.ljust(100, b"\0") + b"ustar\x0000"
    ).ljust(512, b"\0")  # fmt: skip
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


END = bytes(1024)
PAX_ACL = b"30 SCHILY.acl.access=user::rw\n"
PAX_PERCENT = b"29 SCHILY.xattr.user.a%3Db=1\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw(b"../etc/passwd") + END, "climbs out"),
        (raw(b"a/../../b") + END, "climbs out"),
        (raw(b"a", kind=b"1", link=b"../b") + END, "climbs out"),
        (raw(b"a", kind=b"2") + END, "without a valid target"),
        (raw(b"a", kind=b"Z") + END, "not known"),
        (raw(b"a", size=b"-0000000001") + END, "octal"),
        (raw(b"a", size=b"0000000009") + END, "octal"),
        (raw(b"a", size=b"\xff" * 12) + END, "negative"),
        (raw(b"a", size=b"+7") + END, "octal"),
        (raw(b"a", mode=b"000_644") + END, "octal"),
        (raw(b"a", kind=b"5", size=b"00000000010") + bytes(512) + END, "yet has content"),
        (raw(b".", kind=b"0") + END, "in place of the root"),
        (raw(b"a") + END + raw(b"b") + END, "goes on after its end"),
        (raw(b"a") + bytes(512) + raw(b"b") + END, "goes on after its end"),
        (raw(b"x", kind=b"x", size=b"%011o" % 30) + PAX_ACL.ljust(512, b"\0") + raw(b"a") + END, "access control"),
        (raw(b"x", kind=b"x", size=b"%011o" % 29) + PAX_PERCENT.ljust(512, b"\0") + raw(b"a") + END, "as %3D and %25"),
        (raw(b"x", kind=b"x", size=b"%011o" % 8) + b"99 a=b\n ".ljust(512, b"\0") + raw(b"a") + END, "fit its length"),
        (
            raw(b"x", kind=b"x", size=b"%011o" % 8) + b"size=10\n".ljust(512, b"\0") + raw(b"a") + END,
            "without a length",
        ),
        (raw(b"x", kind=b"x", size=b"%011o" % 10) + b"10 size=x\n".ljust(512, b"\0") + raw(b"a") + END, "not a number"),
    ],
)
def test_what_no_honest_archiver_writes_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ArchiveInvalid, match=says):
        read(data)


def test_limits_are_kept(tree: Path) -> None:
    data = gnu_tar(tree, "--format=posix", "--sparse")
    with pytest.raises(ArchiveTooLarge, match="more than 3 entries"):
        read(data, Limits(max_entries=3))
    with pytest.raises(ArchiveTooLarge, match=r"more than 1000000 bytes \(at /sparse\)"):
        read(data, Limits(max_bytes=1_000_000))
    with pytest.raises(ArchiveTooLarge, match="longer than 4 bytes"):
        read(data, Limits(max_path=4))
    huge = raw(b"x", kind=b"x", size=b"77777777777")
    with pytest.raises(ArchiveTooLarge, match="extended tar header"):
        read(huge)
    name = Entry(b"/".join([b"d" * 200] * 30), EntryType.FILE, 0o644, 0, 0)
    with pytest.raises(ArchiveTooLarge, match="longer than 4096 bytes"):
        read(with_header(name))


def test_a_hole_of_a_terabyte_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as hole:
        hole.truncate(2**40)
    data = subprocess.run(["tar", "--sparse", "-C", tmp_path, "-c", "hole"], check=True, capture_output=True).stdout
    with pytest.raises(ArchiveTooLarge):
        read(data)


def test_names_are_shown_without_what_a_terminal_would_act_on() -> None:
    assert shown(b"a\x1b[31m\n\xff") == "/a\\x1b[31m\\n\\xff"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 700))
def test_a_stream_may_come_in_any_portions(size: int) -> None:
    class Portions(io.BytesIO):
        def read(self, wanted: int | None = -1, /) -> bytes:
            return super().read(min(size, wanted or 0))

    assert [(e, b"".join(c)) for e, c in read_tar(Portions(SMALL))] == read(SMALL)
