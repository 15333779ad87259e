"""A database in one file: what is packed comes out again, and what is no such file does nothing."""

import gzip
import io
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.scanning.archive import pack, unpack
from builder.scanning.errors import DatabaseCorrupt, DatabaseMissing

MADE = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "trivy.db").write_bytes(os.urandom(3_000_000))
    (directory / "metadata.json").write_text("{}")
    return directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type = kind
    return found


def test_what_is_packed_comes_out_again(files: Path, target: Path, tmp_path: Path) -> None:
    pack(files, tmp_path / "db.tar.gz", MADE)
    unpack(tmp_path / "db.tar.gz", target)
    for name in ("trivy.db", "metadata.json"):
        assert (target / name).read_bytes() == (files / name).read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["db.tar.gz", "files", "target"]


def test_every_cut_is_noticed(files: Path, target: Path, tmp_path: Path) -> None:
    pack(files, tmp_path / "db.tar.gz", MADE)
    whole = (tmp_path / "db.tar.gz").read_bytes()
    for end in (0, 1, 500, len(whole) // 2, len(whole) - 20):
        (tmp_path / "cut.tar.gz").write_bytes(whole[:end])
        with pytest.raises(DatabaseCorrupt):
            unpack(tmp_path / "cut.tar.gz", target)


def test_every_flipped_bit_is_noticed(files: Path, target: Path, tmp_path: Path) -> None:
    (files / "trivy.db").write_bytes(b"the same again " * 200_000)
    pack(files, tmp_path / "db.tar.gz", MADE)
    whole = (tmp_path / "db.tar.gz").read_bytes()
    for place in range(10, len(whole), len(whole) // 50):
        worn = bytearray(whole)
        worn[place] ^= 4
        (tmp_path / "worn.tar.gz").write_bytes(worn)
        with pytest.raises(DatabaseCorrupt):
            unpack(tmp_path / "worn.tar.gz", target)


def test_what_is_no_archive_is_refused(target: Path, tmp_path: Path) -> None:
    for content in (os.urandom(5000), gzip.compress(os.urandom(5000))):
        (tmp_path / "odd.tar.gz").write_bytes(content)
        with pytest.raises(DatabaseCorrupt):
            unpack(tmp_path / "odd.tar.gz", target)
    with pytest.raises(DatabaseMissing, match="there is no database"):
        unpack(tmp_path / "none.tar.gz", target)


def test_only_the_two_files_are_read_and_no_path_is_followed(target: Path, tmp_path: Path) -> None:
    link = member("trivy.db", tarfile.SYMTYPE)
    link.linkname = "/etc/passwd"
    archive = archive_of(
        tmp_path / "sly.tar.gz", (member("../escaped"), b"x"), (member("/tmp/absolute"), b"x"), (link, b""),
        (member("./trivy.db"), b"database"), (member("metadata.json"), b"{}"),
    )  # fmt: skip
    unpack(archive, target)
    assert {entry.name for entry in target.iterdir()} == {"trivy.db", "metadata.json"}
    assert (target / "trivy.db").read_bytes() == b"database"
    assert not (tmp_path / "escaped").exists()


def test_an_archive_that_lacks_a_file_says_which(target: Path, tmp_path: Path) -> None:
    with pytest.raises(DatabaseCorrupt, match=r"has no metadata\.json"):
        unpack(archive_of(tmp_path / "half.tar.gz", (member("trivy.db"), b"x")), target)


def test_one_that_claims_too_much_is_refused_before_it_is_written(target: Path, tmp_path: Path) -> None:
    claims = tarfile.TarInfo("trivy.db")
    claims.size = 1 << 40
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(claims.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    with pytest.raises(DatabaseCorrupt, match="claims"):
        unpack(tmp_path / "bomb.tar.gz", target)
    assert list(target.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(files: Path, tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing, match="cannot be written"):
        pack(files, tmp_path / "nowhere" / "db.tar.gz", MADE)
    (files / "metadata.json").unlink()
    with pytest.raises(DatabaseMissing):
        pack(files, tmp_path / "db.tar.gz", MADE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["files"]
