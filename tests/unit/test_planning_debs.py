"""Packages come in verified or not at all, and hostile files are refused, not believed."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.locking import exclusive
from builder.planning.debs import (
    DebStore,
    MaterialCorrupt,
    MaterialMissing,
    PackageUnreadable,
    control_of,
    field,
    made_at,
)
from builder.planning.flat import write_flat_archive
from builder.planning.lock import LockedPackage
from builder.process import run


def ar_header(name: bytes = b"debian-binary", time: bytes = b"1700000000", size: bytes = b"4") -> bytes:
    fields = (name.ljust(16), time.ljust(12), b"0".ljust(6), b"0".ljust(6), b"100644".ljust(8), size.ljust(10))
    return b"".join(fields) + b"`\n"


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def make_deb(path: Path, control: bytes, time: bytes = b"1700000000") -> str:
    """A whole package with that control file; answers its sha256."""
    parts = [b"!<arch>\n", ar_header(time=time), b"2.0\n"]
    for name, content in ((b"control.tar.gz", tar_gz({"./control": control})), (b"data.tar.gz", tar_gz({}))):
        parts += [ar_header(name, time, str(len(content)).encode()), content, b"\n" * (len(content) % 2)]
    path.write_bytes(b"".join(parts))
    return hashlib.sha256(path.read_bytes()).hexdigest()


CONTROL = b"""Package: hello
Version: 1:2.10-3
Architecture: all
Maintainer: \xc3\x89 <e@example.org>
Description: says hello
 Package: not-this
"""


@pytest.fixture
def store(tmp_path: Path) -> DebStore:
    return DebStore(tmp_path / "debs")


@pytest.fixture
def deb(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "hello.deb"
    return path, make_deb(path, CONTROL)


def locked(sha256: str, size: int = 1) -> LockedPackage:
    return LockedPackage(name="hello", version="1:2.10-3", architecture="all", size=size, sha256=sha256)


class TestStore:
    def test_keeps_a_file_under_its_digest(self, store: DebStore, deb: tuple[Path, str]) -> None:
        path, sha256 = deb
        assert not store.has(sha256)
        store.add(path, sha256)
        assert store.has(sha256)
        assert store.verified(locked(sha256)).read_bytes() == path.read_bytes()

    def test_refuses_another_digest_and_leaves_nothing(self, store: DebStore, deb: tuple[Path, str]) -> None:
        with pytest.raises(MaterialCorrupt, match=r"hello\.deb has sha256"):
            store.add(deb[0], "f" * 64)
        assert list(store.path("x").parent.iterdir()) == []

    def test_leaves_nothing_when_the_source_cannot_be_read(self, store: DebStore, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="No such file"):
            store.add(tmp_path / "nowhere", "f" * 64)
        assert list(store.path("x").parent.iterdir()) == []

    def test_finds_out_when_a_kept_file_has_changed(self, store: DebStore, deb: tuple[Path, str]) -> None:
        path, sha256 = deb
        store.add(path, sha256)
        with store.path(sha256).open("r+b") as stream:
            stream.seek(80)
            stream.write(b"\xff")
        with pytest.raises(MaterialCorrupt, match=r"hello 1:2.10-3 has sha256") as caught:
            store.verified(locked(sha256))
        assert str(store.path(sha256)) in (caught.value.hint or "")

    def test_says_when_a_package_is_gone(self, store: DebStore) -> None:
        with pytest.raises(MaterialMissing, match=r"hello 1:2\.10-3 is not kept any more"):
            store.verified(locked("a" * 64))

    def test_takes_the_same_file_from_many_at_once(self, store: DebStore, deb: tuple[Path, str]) -> None:
        path, sha256 = deb
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: store.add(path, sha256), range(40)))
        assert [file.name for file in store.path("x").parent.iterdir()] == [f"{sha256}.deb"]
        store.verified(locked(sha256))


class TestTaking:
    def test_gives_a_file_that_outlives_the_store(self, store: DebStore, deb: tuple[Path, str], tmp_path: Path) -> None:
        path, sha256 = deb
        store.add(path, sha256)
        store.take(locked(sha256), tmp_path / "mine")
        assert (tmp_path / "mine").samefile(store.path(sha256))
        assert store.trim(0, keep_seconds=0) == path.stat().st_size
        assert (tmp_path / "mine").read_bytes() == path.read_bytes()

    def test_copies_where_links_cannot_be(
        self, store: DebStore, deb: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(source: Path, destination: Path) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
        path, sha256 = deb
        store.add(path, sha256)
        store.take(locked(sha256), tmp_path / "mine")
        assert not (tmp_path / "mine").samefile(store.path(sha256))
        assert (tmp_path / "mine").read_bytes() == path.read_bytes()

    @pytest.mark.parametrize("links", [True, False])
    def test_says_when_the_file_goes_at_the_last_moment(
        self, store: DebStore, deb: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        path, sha256 = deb
        store.add(path, sha256)
        link = os.link

        def lose(source: Path, destination: Path) -> None:
            store.path(sha256).unlink()
            if not links:
                raise OSError(18, "Invalid cross-device link")
            link(source, destination)

        monkeypatch.setattr(os, "link", lose)
        with pytest.raises(MaterialMissing, match=r"hello 1:2\.10-3 is not kept any more") as caught:
            store.take(locked(sha256), tmp_path / "mine")
        assert caught.value.retryable

    def test_refuses_what_has_changed(self, store: DebStore, deb: tuple[Path, str], tmp_path: Path) -> None:
        path, sha256 = deb
        store.add(path, sha256)
        store.path(sha256).write_bytes(b"another")
        with pytest.raises(MaterialCorrupt) as caught:
            store.take(locked(sha256), tmp_path / "mine")
        assert str(store.path(sha256)) in (caught.value.hint or "")


class TestTrimming:
    @pytest.fixture
    def kept(self, store: DebStore, tmp_path: Path) -> list[str]:
        """Three packages, the first one not used for the longest time: 3, 2 and 1 hours."""
        found = []
        for hours in (3, 2, 1):
            path = tmp_path / f"{hours}.deb"
            found.append(make_deb(path, CONTROL, time=str(hours).encode()))
            store.add(path, found[-1])
            then = time.time() - hours * 3600
            os.utime(store.path(found[-1]), (then, then))
        return found

    def left(self, store: DebStore) -> set[str]:
        return {path.stem for path in store.path("x").parent.glob("*.deb")}

    def size(self, store: DebStore) -> int:
        return sum(path.stat().st_size for path in store.path("x").parent.iterdir())

    def test_removes_the_least_recently_used_until_the_rest_fits(self, store: DebStore, kept: list[str]) -> None:
        whole = self.size(store)
        assert store.trim(whole, keep_seconds=0) == 0
        assert store.trim(whole - 1, keep_seconds=0) == whole - self.size(store)
        assert self.left(store) == {kept[1], kept[2]}
        store.trim(0, keep_seconds=0)
        assert self.left(store) == set()

    @pytest.mark.parametrize("use", ["has", "verified", "take", "add"])
    def test_spares_what_was_used_since(self, store: DebStore, kept: list[str], tmp_path: Path, use: str) -> None:
        oldest = kept[0]
        {
            "has": lambda: store.has(oldest),
            "verified": lambda: store.verified(locked(oldest)),
            "take": lambda: store.take(locked(oldest), tmp_path / "mine"),
            "add": lambda: store.add(tmp_path / "3.deb", oldest),
        }[use]()
        store.trim(0, keep_seconds=1800)
        assert self.left(store) == {oldest}

    def test_asking_for_what_is_not_there_keeps_nothing(self, store: DebStore) -> None:
        assert not store.has("a" * 64)
        assert self.left(store) == set()

    def test_removes_what_a_dying_worker_left_and_not_what_is_on_its_way_in(
        self, store: DebStore, kept: list[str]
    ) -> None:
        directory = store.path("x").parent
        for name, age in ((".incoming-dead", 2 * 86400), (".incoming-alive", 3600)):
            (directory / name).write_bytes(b"abc")
            os.utime(directory / name, (time.time() - age,) * 2)
        assert store.trim(10**9, keep_seconds=0) == 3
        assert {path.name for path in directory.iterdir()} == {".incoming-alive"} | {f"{one}.deb" for one in kept}

    def test_waits_for_a_use_and_a_use_for_it(self, store: DebStore, kept: list[str]) -> None:
        order: list[str] = []

        def use() -> None:
            store.has(kept[0])
            order.append("used")

        with exclusive(store.path("x").parent.with_name("debs.lock")):
            user = threading.Thread(target=use)
            user.start()
            time.sleep(0.3)
            order.append("let go")
        user.join(10)
        assert order == ["let go", "used"]


class TestControl:
    def test_is_what_dpkg_reads(self, deb: tuple[Path, str]) -> None:
        control = control_of(deb[0])
        assert field(control, "Package") == "hello"
        assert field(control, "Version") == "1:2.10-3"
        assert "É" in field(control, "Maintainer")

    def test_of_what_is_no_package_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.deb").write_bytes(b"!<arch>\n" + ar_header() + b"2.0\n")
        with pytest.raises(PackageUnreadable, match=r"x\.deb is not a Debian package"):
            control_of(tmp_path / "x.deb")

    @pytest.mark.parametrize(
        ("text", "name", "value"),
        [
            ("A: 1\nB: 2\n", "B", "2"),
            ("A:1", "A", "1"),
            ("A:  spaced  ", "A", "spaced"),
            ("AB: 1", "A", ""),
            (" A: folded\nA: own", "A", "own"),
            ("A: first\nA: second", "A", "first"),
            ("", "A", ""),
            ("a: 1", "A", ""),
        ],
    )
    def test_a_field_is_found_by_its_whole_name(self, text: str, name: str, value: str) -> None:
        assert field(text, name) == value


class TestTime:
    def test_is_the_first_members(self, deb: tuple[Path, str]) -> None:
        assert made_at(deb[0]) == 1_700_000_000

    def test_is_the_changelogs_when_dpkg_makes_the_package(self, tmp_path: Path) -> None:
        (tmp_path / "p/DEBIAN").mkdir(parents=True)
        (tmp_path / "p/DEBIAN/control").write_bytes(CONTROL)
        run(["dpkg-deb", "--build", tmp_path / "p"], timeout=30, env={"SOURCE_DATE_EPOCH": "1234567890"})
        assert made_at(tmp_path / "p.deb") == 1_234_567_890

    @pytest.mark.parametrize("time", [b"-5", b"1_0", b"0x10", b"", b"1 2", b"1e3", b" 7", b"\xd9\xa3", b"+3"])
    def test_that_is_no_number_is_refused(self, tmp_path: Path, time: bytes) -> None:
        (tmp_path / "x.deb").write_bytes(b"!<arch>\n" + ar_header(time=time) + b"2.0\n")
        with pytest.raises(PackageUnreadable):
            made_at(tmp_path / "x.deb")

    @pytest.mark.parametrize("data", [b"", b"!<arch>\n", b"!<arch>\n" + ar_header()[:-1], ar_header(), b"\0" * 100])
    def test_of_a_file_cut_short_is_refused(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "x.deb").write_bytes(data)
        with pytest.raises(PackageUnreadable):
            made_at(tmp_path / "x.deb")

    def test_of_a_file_that_went_meanwhile_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MaterialMissing, match=r"x\.deb is not kept any more"):
            made_at(tmp_path / "x.deb")

    @given(data=st.binary(max_size=80) | st.binary(min_size=60, max_size=60).map(b"!<arch>\n".__add__))
    def test_of_any_file_is_a_number_or_refused(self, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
        path = tmp_path_factory.getbasetemp() / "any.deb"
        path.write_bytes(data)
        with suppress(PackageUnreadable):
            assert 0 <= made_at(path) < 10**12


class TestFlatArchive:
    def test_names_each_package_by_its_digest(self, store: DebStore, deb: tuple[Path, str], tmp_path: Path) -> None:
        path, sha256 = deb
        store.add(path, sha256)
        archive = tmp_path / "archive"
        archive.mkdir()
        write_flat_archive(archive, [locked(sha256, path.stat().st_size)], store)
        assert sorted(file.name for file in archive.iterdir()) == sorted(["Packages", f"{sha256}.deb"])
        index = (archive / "Packages").read_text("utf-8")
        assert field(index, "Filename") == f"./{sha256}.deb"
        assert field(index, "SHA256") == sha256
        assert field(index, "Size") == str(path.stat().st_size)
        assert field(index, "Maintainer") == "É <e@example.org>"

    def test_takes_nothing_that_has_changed(self, store: DebStore, deb: tuple[Path, str], tmp_path: Path) -> None:
        path, sha256 = deb
        store.add(path, sha256)
        store.path(sha256).write_bytes(b"another")
        with pytest.raises(MaterialCorrupt):
            write_flat_archive(tmp_path, [locked(sha256)], store)
        assert not (tmp_path / "Packages").exists()
