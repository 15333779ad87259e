"""An archive of evidence is read without unpacking it, and one that is damaged or hostile is refused by name."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import Rejected
from builder.image.digests import digest_of
from builder.image.documents import CONFIG, Descriptor, Manifest
from builder.verification.archive import ArchiveAltered, ArchiveUnreadable, read_archive

MANIFEST = Manifest(config=Descriptor(media_type=CONFIG, digest=digest_of(b"{}"), size=2), layers=()).to_bytes()
MEMBERS = {
    "manifest.json": MANIFEST,
    "config.json": b"{}",
    "bundles/provenance.json": b"[1]",
    "inventory.jsonl.zst": b"i" * 3_000_000,
    "record.json": b"{}",
    "ledger/entry.json": b"e",
    "ledger/proof.tlog-proof": b"p",
}


def sums(members: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items()).encode()


def archive(path: Path, members: dict[str, bytes], told: bytes | None = None, *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in {**members, "SHA256SUMS": sums(members) if told is None else told}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in more:
            tar.addfile(info)
    return path


def test_it_is_read(tmp_path: Path) -> None:
    found = read_archive(archive(tmp_path / "a.tar", MEMBERS))
    assert found.digest == digest_of(MANIFEST)
    assert found.bundles().found == (b"[1]",)
    assert found.documents() == {"inventory": digest_of(MEMBERS["inventory.jsonl.zst"])}
    assert "inventory.jsonl.zst" not in found.contents, "what is large is hashed and not kept"
    proof = found.ledger()
    assert proof is not None
    assert (proof.record, proof.entry, proof.proof) == (b"{}", b"e", b"p")


@pytest.mark.parametrize("name", list(MEMBERS))
def test_a_member_that_changed_is_named(tmp_path: Path, name: str) -> None:
    changed = {**MEMBERS, name: MEMBERS[name] + b" "}
    with pytest.raises(ArchiveAltered, match=name):
        read_archive(archive(tmp_path / "a.tar", changed, sums(MEMBERS)))


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "manifest.json"])
def test_a_member_that_is_gone_or_new_is_named(tmp_path: Path, name: str) -> None:
    fewer = {one: data for one, data in MEMBERS.items() if one != name}
    with pytest.raises(ArchiveAltered, match=f"lacks {name}"):
        read_archive(archive(tmp_path / "a.tar", fewer, sums(MEMBERS)))
    with pytest.raises(ArchiveAltered, match=f"has {name}"):
        read_archive(archive(tmp_path / "b.tar", MEMBERS, sums(fewer)))


@pytest.mark.parametrize("end", ["", "\r", "\v", "\x85", "\u2028", "\n\n"])
def test_the_lines_of_the_sums_end_in_one_way_alone(tmp_path: Path, end: str) -> None:
    told = sums(MEMBERS)[:-1] + end.encode()
    with pytest.raises(ArchiveAltered, match="SHA256SUMS"):
        read_archive(archive(tmp_path / "a.tar", MEMBERS, told))


def test_the_config_is_the_manifests(tmp_path: Path) -> None:
    with pytest.raises(ArchiveAltered, match=r"config\.json is sha256:"):
        read_archive(archive(tmp_path / "a.tar", {**MEMBERS, "config.json": b"{ }"}))


@pytest.mark.parametrize("missing", ["manifest.json", "SHA256SUMS"])
def test_what_every_archive_has_must_be_there(tmp_path: Path, missing: str) -> None:
    members = {**MEMBERS, "SHA256SUMS": sums(MEMBERS)}
    del members[missing]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ArchiveUnreadable, match=f"has no {missing}"):
        read_archive(tmp_path / "a.tar")


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "manifest.json"
    return info


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (member("../escape"), "which no archive"),
        (member("/etc/passwd"), "which no archive"),
        (member("a/b/c"), "which no archive"),
        (member("a\x1b[31m"), r"x1b\[31m"),
        (member("link", tarfile.SYMTYPE), "which no archive"),
        (member("link", tarfile.LNKTYPE), "which no archive"),
        (member("device", tarfile.CHRTYPE), "which no archive"),
        (member("directory", tarfile.DIRTYPE), "which no archive"),
        (member("sparse", tarfile.GNUTYPE_SPARSE, 2**50), "which no archive"),
        (member("long", tarfile.GNUTYPE_LONGNAME, 2**50), "which no archive"),
        (member("pax", tarfile.XHDTYPE, 2**50), "which no archive"),
        (member("manifest.json"), "twice"),
        (member("bundles/huge.json", size=2**40), "larger than"),
    ],
)
def test_what_no_archive_has_is_refused(tmp_path: Path, odd: tarfile.TarInfo, says: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        # A header alone: what it claims to have may not be there.
        assert tar.fileobj is not None
        tar.fileobj.write(odd.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(ArchiveUnreadable, match=says):
        read_archive(tmp_path / "a.tar")


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreadable, match="more than 1000"):
        read_archive(archive(tmp_path / "a.tar", MEMBERS, None, *(member(f"x{number}") for number in range(1001))))


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 5000, json.dumps({"a": 1}).encode()])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ArchiveUnreadable):
        read_archive(tmp_path / "a.tar")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreadable, match="No such file"):
        read_archive(tmp_path / "none.tar")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_flipped_it_is_the_same_evidence_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    small = {**MEMBERS, "inventory.jsonl.zst": b"i"}
    whole = archive(tmp_path / "a.tar", small).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    altered = whole[:place] + bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[place + 1 :]
    (tmp_path / "b.tar").write_bytes(altered)
    try:
        found = read_archive(tmp_path / "b.tar")
    except Rejected:
        return
    before = read_archive(tmp_path / "a.tar")
    assert (found.contents, found.digests) == (before.contents, before.digests)
