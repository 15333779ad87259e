"""An inventory says what is in an image, and cannot be changed without being found out."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.image import inventory
from builder.image.canonical import canonicalise
from builder.image.entry import Entry, EntryType, canonical_key
from builder.image.inventory import (
    InventoryInvalid,
    Package,
    Record,
    decode_record,
    encode_record,
    open_inventory,
    write_inventory,
)
from builder.image.ownership import Ownership

SHA = "0" * 64
ENTRIES = (
    Entry(b"bin", EntryType.SYMLINK, 0o777, 0, 0, target=b"usr/bin"),
    Entry(b"usr", EntryType.DIRECTORY, 0o755, 0, 0),
    Entry(b"usr/a", EntryType.FILE, 0o4755, 0, 5, size=3, sha256=SHA, xattrs=((b"security.capability", b"\1\xff"),)),
    Entry(b"usr/b", EntryType.HARDLINK, 0o4755, 0, 5, size=3, sha256=SHA, target=b"usr/a"),
    Entry(b"usr/n\xef", EntryType.CHARACTER, 0o600, 0, 0, device=(1, 3)),
)


def written(directory: Path, entries: tuple[Entry, ...] = ENTRIES) -> Path:
    write_inventory(entries, directory / "inventory")
    return directory / "inventory"


def read(path: Path) -> list[Record]:
    with open_inventory(path) as (_, records):
        return list(records)


def rewritten(path: Path, change: object) -> Path:
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(zstandard.ZstdCompressor().compress(b"".join(change(lines))))  # type: ignore[operator]
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert [record.entry for record in read(written(tmp_path))] == list(ENTRIES)


def test_the_lines_are_these(tmp_path: Path) -> None:
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(written(tmp_path).read_bytes()).splitlines()
    assert lines[0].startswith(b'{"entries":5,"format":"goldsmith-inventory/v1","root":"sha256:')
    assert lines[1] == b'{"gid":0,"mode":"0777","path":"bin","target":"usr/bin","type":"symlink","uid":0}'
    assert lines[3] == (
        b'{"gid":5,"mode":"4755","path":"usr/a","sha256":"' + SHA.encode() + b'","size":3,"type":"file","uid":0,'
        b'"xattrs":{"security.capability":"Af8="}}'
    )
    assert lines[5] == b'{"device":[1,3],"gid":0,"mode":"0600","path_base64":"dXNyL27v","type":"character","uid":0}'


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines, lines[-1].replace(b"dXNyL27v", b"dXNyL27w")],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [lines[0], lines[1], *lines[1:-1]],
        lambda lines: [line.replace(b"4755", b"0755") for line in lines],
        lambda lines: [lines[0].replace(b'"entries":5', b'"entries":4'), *lines[1:-1]],
        lambda lines: [lines[0].replace(b"v1", b"v2"), *lines[1:]],
        lambda lines: [line.replace(b'"gid":0,', b'"gid": 0,') for line in lines],
        lambda lines: [*lines[:-1], lines[-1].rstrip()],
        lambda lines: [lines[0], b"[]\n", *lines[2:]],
        lambda lines: [lines[0], b"[" * 100_000 + b"\n", *lines[2:]],
        lambda lines: [lines[0], b"x" * 2_000_000 + b"\n", *lines[2:]],
        lambda lines: [],
    ],
)
def test_no_change_of_a_line_goes_unseen(tmp_path: Path, change: object) -> None:
    path = rewritten(written(tmp_path), change)
    with pytest.raises(InventoryInvalid):
        read(path)


@given(position=st.integers(0, 10_000), byte=st.integers(1, 255))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_change_of_a_byte_goes_unseen(tmp_path: Path, position: int, byte: int) -> None:
    path = tmp_path / "inventory"
    path.unlink(missing_ok=True)
    data = bytearray(written(tmp_path).read_bytes())
    data[position % len(data)] ^= byte
    path.write_bytes(data)
    try:
        found = [record.entry for record in read(path)]
    except InventoryInvalid:
        return
    # A few bits of a zstd frame header mean nothing; what is read is then what was written.
    assert found == list(ENTRIES)


def test_an_inventory_cut_off_or_carried_on_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path).read_bytes()
    for bad in (data[:-1], data[: len(data) // 2], data + b"x", data + data, b""):
        (tmp_path / "inventory").write_bytes(bad)
        with pytest.raises(InventoryInvalid):
            read(tmp_path / "inventory")


PATH = st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=3).map(b"/".join)
ENTRY = st.builds(
    Entry,
    path=PATH,
    type=st.just(EntryType.FILE),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**31),
    gid=st.integers(0, 2**31),
    size=st.integers(0, 2**40),
    sha256=st.just(SHA),
    target=st.none() | st.binary(min_size=1),
    xattrs=st.dictionaries(st.text("abc.", min_size=1).map(str.encode), st.binary()).map(
        lambda d: tuple(sorted(d.items()))
    ),
)


@given(ENTRY, st.none() | st.builds(Package, st.text("abc-+."), st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_name_and_attribute_survives(entry: Entry, package: Package | None) -> None:
    record = Record(entry, package)
    assert decode_record(encode_record(record)) == record
    assert b"\n" not in encode_record(record)


PLAIN = st.text(" !#$%&'()*+,-./09:;<=>?@AZ[]^_`az{|}~\\\"\x7fä\t", min_size=1).map(str.encode)


@given(
    entry=ENTRY,
    path=PLAIN,
    target=st.none() | PLAIN,
    kind=st.sampled_from(EntryType),
    sha256=st.none() | st.just(SHA),
    package=st.none() | st.builds(Package, st.text('abc-+."\\'), st.text()),
    xattrs=st.booleans(),
)
def test_the_short_way_to_write_a_line_gives_what_the_long_way_does(
    entry: Entry, path: bytes, target: bytes | None, kind: EntryType, sha256: str | None, package: Package | None,
    xattrs: bool,
) -> None:  # fmt: skip
    changed = replace(entry, path=path, target=target, type=kind, sha256=sha256)
    record = Record(changed if xattrs else replace(changed, xattrs=()), package)
    assert encode_record(record) == inventory._encode_any(record)


@given(st.dictionaries(PATH, ENTRY, max_size=20))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_change_of_any_entry_changes_the_root(tmp_path: Path, entries: dict[bytes, Entry]) -> None:
    path = tmp_path / "inventory"
    path.unlink(missing_ok=True)
    listed = sorted({e.path: e for e in entries.values()}.values(), key=lambda e: canonical_key(e.path))
    first = write_inventory(listed, path)
    assert [record.entry for record in read(path)] == listed
    for at in range(len(listed)):
        path.unlink()
        assert write_inventory([*listed[:at], *listed[at + 1 :]], path).root != first.root


def test_paths_are_owned_by_the_package_that_installed_them(tmp_path: Path) -> None:
    files = {
        "var/lib/dpkg/status": "Package: coreutils\nStatus: install ok installed\nVersion: 9.1-1\n\n"
        "Package: libc6\nVersion: 2.36-9\n\nPackage: dash\nVersion: 0.5\n\nPackage: mine\nVersion: 1\n",
        "var/lib/dpkg/info/coreutils.list": "/.\n/bin\n/bin/ls\n/usr/bin/env\n",
        "var/lib/dpkg/info/libc6:amd64.list": "/.\n/lib/libc.so.6\n",
        "var/lib/dpkg/info/dash.list": "/bin/sh\n",
        "var/lib/dpkg/info/mine.list": "/bin/sh\n",
        "var/lib/dpkg/diversions": "/bin/sh\n/bin/sh.distrib\nmine\n",
        "usr/bin/ls": "", "usr/bin/env": "", "usr/bin/sh": "", "usr/bin/sh.distrib": "", "usr/lib/libc.so.6": "",
        "usr/bin/stray": "",
    }  # fmt: skip
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, target in (("bin", "usr/bin"), ("lib", "usr/lib")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    out.seek(0)
    with canonicalise(out, spool_dir=tmp_path, epoch=0) as tree:
        owner = Ownership(tree).owner
        owners = {entry.path.decode(): owner(entry) for entry in tree.entries if entry.path.startswith(b"usr/")}
    assert owners["usr/bin/ls"] == owners["usr/bin/env"] == Package("coreutils", "9.1-1")
    assert owners["usr/lib/libc.so.6"] == Package("libc6", "2.36-9")
    assert owners["usr/bin/sh"] == Package("mine", "1")
    assert owners["usr/bin/sh.distrib"] == Package("dash", "0.5")
    assert owners["usr/bin/stray"] is None
    assert owners["usr/bin"] is None


LINES = (
    b'{"gid":0,"mode":"0644","package":{"name":"nginx","version":"1:2+b1"},"path":"usr/a","sha256":"%b","size":3,'
    b'"type":"file","uid":0}' % SHA.encode(),
    b'{"gid":4,"mode":"0777","path":"bin","target":"usr/bin","type":"symlink","uid":0}',
    b'{"gid":0,"mode":"0755","path":"usr","type":"directory","uid":10}',
)
SPELLINGS = st.sampled_from(
    [b"", b"0", b"00", b"-1", b"1e1", b"9" * 20, b"9" * 5000,
     b" ", b'"', b"\\", b"\\u0061", b"\x7f", b"\xff", b"\xc3\xa4",
     b"null", b"[]", b"{}", b",", b'"size":1,', b'"type":"fifo",', b'"type":"door",', b"\n"]
)  # fmt: skip


@given(
    line=st.sampled_from(LINES), at=st.integers(0, 200), cut=st.integers(0, 6), put=SPELLINGS | st.binary(max_size=3)
)
def test_the_short_way_to_read_a_line_takes_nothing_that_the_long_way_does_not(
    line: bytes, at: int, cut: int, put: bytes
) -> None:
    def read_by(decode: object) -> Record | None:
        try:
            return decode(line[:at] + put + line[at + cut :])  # type: ignore[operator, no-any-return]
        except InventoryInvalid:
            return None

    assert decode_record(line) == inventory._decode_any(line)
    assert read_by(decode_record) == read_by(inventory._decode_any)
