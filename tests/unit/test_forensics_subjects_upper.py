"""A container's own layer is read for attributes by a walk that nothing in it can lead astray, stop or exhaust."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.forensics.subjects.upper import OwnLayer
from builder.image.entry import Entry, EntryType
from builder.image.tarheader import ArchiveTooLarge


def inspected(upper: Path) -> dict[str, Any]:
    return {"GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": str(upper)}}}


def entry(path: bytes) -> Entry:
    return Entry(path, EntryType.FILE, 0o644, 0, 0)


def attributes(layer: OwnLayer, path: bytes) -> dict[bytes, bytes]:
    [found] = layer.added_to(iter([entry(path)]))
    return dict(found.xattrs)


def test_what_was_set_in_the_container_is_added(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/x").write_bytes(b"")
    os.setxattr(tmp_path / "srv/x", "user.origin", b"elsewhere")
    layer = OwnLayer(inspected(tmp_path))
    assert attributes(layer, b"srv/x") == {b"user.origin": b"elsewhere"}
    assert layer.unproven == ()


def test_without_the_layer_attributes_are_among_what_was_not_looked_at(tmp_path: Path) -> None:
    layer = OwnLayer(inspected(tmp_path / "gone"))
    assert attributes(layer, b"x") == {}
    assert "extended attributes" in layer.unproven[0]


def test_directories_without_end_are_told_and_end_nothing(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("d", dir_fd=held)
        inside = os.open("d", os.O_RDONLY, dir_fd=held)
        os.close(held)
        held = inside
    os.close(held)
    try:
        layer = OwnLayer(inspected(tmp_path))
        attributes(layer, b"x")
        assert "deep" in layer.unproven[0]
    finally:
        subprocess.run(["rm", "-rf", tmp_path], check=True)  # Python's own way of removing it would not come back


def test_nothing_in_the_layer_is_followed_or_opened(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.setxattr(elsewhere, "user.secret", b"x")
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "link").symlink_to(elsewhere)
    os.mkfifo(upper / "pipe")  # to open one waits for a writer
    assert attributes(OwnLayer(inspected(upper)), b"link") == {}


def test_attributes_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.forensics.subjects.upper._MOST_BYTES", 1000)
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"")
        os.setxattr(tmp_path / str(number), "user.x", b"x" * 500)
    with pytest.raises(ArchiveTooLarge):
        attributes(OwnLayer(inspected(tmp_path)), b"0")
