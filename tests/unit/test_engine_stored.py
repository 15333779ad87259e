"""Packages lose their compression and nothing else, and what is no package is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from builder.engine.stored import write_stored_archive
from builder.planning.debs import DebStore, MaterialCorrupt, PackageUnreadable
from builder.planning.lock import LockedPackage
from builder.process import run

CONTROL = "Package: hello\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: greets\n"


def package(debs: DebStore, file: Path) -> LockedPackage:
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    debs.add(file, sha256)
    return LockedPackage(name="hello", version="1.0", architecture="all", size=file.stat().st_size, sha256=sha256)


def built(work: Path, *options: str) -> Path:
    """A package that dpkg-deb makes, its content not the same each time and of an odd size."""
    root = work / "root"
    (root / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (root / "DEBIAN" / "control").write_text(CONTROL)
    (root / "content").write_bytes(os.urandom(70_001) + bytes(2_000_000))
    (root / "link").unlink(missing_ok=True)
    (root / "link").symlink_to("content")
    file = work / f"{''.join(options)}.deb"
    run(["dpkg-deb", *options, "--root-owner-group", "--build", root, file], timeout=60)
    return file


def parts(file: Path) -> tuple[bytes, bytes]:
    """The two tars in a package, as dpkg reads them."""
    control = run(["dpkg-deb", "--ctrl-tarfile", file], timeout=60).stdout
    return control, run(["dpkg-deb", "--fsys-tarfile", file], timeout=60).stdout


@pytest.fixture
def debs(tmp_path: Path) -> DebStore:
    return DebStore(tmp_path / "debs")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


@pytest.mark.parametrize("compression", ["xz", "gzip", "none"])
def test_dpkg_reads_the_same_from_it(debs: DebStore, archive: Path, tmp_path: Path, compression: str) -> None:
    original = built(tmp_path, f"-Z{compression}")
    written = write_stored_archive(archive, [package(debs, original)], debs)
    (stored,) = archive.glob("*.deb")
    assert parts(stored) == parts(original)
    assert stored.stat().st_size == written
    members = run(["ar", "t", stored], timeout=10).stdout.decode().split()
    assert not [name for name in members if name.endswith(".xz")]


def test_the_index_describes_the_files_as_they_are(debs: DebStore, archive: Path, tmp_path: Path) -> None:
    originals = [built(tmp_path, "-Zxz", f"-z{level}") for level in (1, 2, 3)]
    write_stored_archive(archive, [package(debs, original) for original in originals], debs)
    stanzas = [
        dict(line.split(": ", 1) for line in text.strip().splitlines())
        for text in (archive / "Packages").read_text().split("\n\n")
    ]
    assert len(stanzas) == 3
    assert {path.name for path in archive.iterdir()} == {*(s["Filename"][2:] for s in stanzas), "Packages"}
    for stanza in stanzas:
        content = (archive / stanza["Filename"]).read_bytes()
        assert (int(stanza["Size"]), stanza["SHA256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert stanza["Package"] == "hello"


def test_the_kept_package_stays_as_it_was_fetched(debs: DebStore, archive: Path, tmp_path: Path) -> None:
    locked = package(debs, built(tmp_path, "-Zxz"))
    write_stored_archive(archive, [locked], debs)
    assert hashlib.sha256(debs.path(locked.sha256).read_bytes()).hexdigest() == locked.sha256


def test_a_package_that_is_not_what_was_locked_is_not_unpacked(debs: DebStore, archive: Path, tmp_path: Path) -> None:
    locked = package(debs, built(tmp_path, "-Zxz"))
    debs.path(locked.sha256).write_bytes(built(tmp_path, "-Zgzip").read_bytes())
    with pytest.raises(MaterialCorrupt):
        write_stored_archive(archive, [locked], debs)
    assert not list(archive.glob("*.deb"))


@pytest.mark.parametrize("damage", ["empty", "no archive", "cut short", "cut in a header", "no header", "bad xz"])
def test_what_is_no_package_is_refused(debs: DebStore, archive: Path, tmp_path: Path, damage: str) -> None:
    good = built(tmp_path, "-Zxz").read_bytes()
    half = len(good) // 2
    file = tmp_path / "damaged.deb"
    file.write_bytes(
        {
            "empty": b"",
            "no archive": b"PK\x03\x04" + good,
            "cut short": good[:half],
            "cut in a header": good[:100],
            "no header": good[:66] + b"??" + good[68:],
            "bad xz": good[:half] + bytes(100) + good[half + 100 :],
        }[damage]
    )
    with pytest.raises(PackageUnreadable):
        write_stored_archive(archive, [package(debs, file)], debs)
