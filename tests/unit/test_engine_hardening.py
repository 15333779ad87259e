"""Hardening takes away exactly what the recipe says, from entries, as a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.engine.hardening import hardening_edit
from builder.image.entry import Entry, EntryType
from builder.recipes.files import content_of
from builder.recipes.model import File, Hardening


def entry(path: str, kind: EntryType = EntryType.FILE, mode: int = 0o644, target: bytes = b"") -> Entry:
    return Entry(path.encode(), kind, mode, 0, 0, target=target)


NOTHING = Hardening(remove_setuid=False, lock_passwords=False)


class TestSetuid:
    @pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755])
    @pytest.mark.parametrize("kind", [EntryType.FILE, EntryType.HARDLINK])
    def test_bits_are_taken_off_programs(self, mode: int, kind: EntryType) -> None:
        found = entry("usr/bin/su", kind, mode)
        assert hardening_edit(Hardening())(found) == replace(found, mode=0o755)

    def test_directories_keep_theirs(self) -> None:
        found = entry("var/local", EntryType.DIRECTORY, 0o2775)
        assert hardening_edit(Hardening())(found) == found

    def test_the_ones_to_keep_are_kept(self) -> None:
        edit = hardening_edit(Hardening(keep_setuid=["/usr/bin/su"]))
        kept, other = entry("usr/bin/su", mode=0o4755), entry("usr/bin/mount", mode=0o4755)
        assert edit(kept) == kept
        assert edit(other) == replace(other, mode=0o755)

    def test_nothing_is_taken_when_nothing_is_asked(self) -> None:
        found = entry("usr/bin/su", mode=0o4755)
        assert hardening_edit(NOTHING)(found) == found

    def test_other_bits_stay(self) -> None:
        found = entry("tmp/x", mode=0o1666)
        assert hardening_edit(Hardening())(found) == found


class TestDocumentation:
    edit = staticmethod(hardening_edit(Hardening(remove_documentation=True)))

    @pytest.mark.parametrize(
        "path",
        ["usr/share/man/man1/ls.1.gz", "usr/share/info/dir", "usr/share/locale/de/LC_MESSAGES/x.mo",
         "usr/share/doc/bash/README", "usr/share/lintian/overrides/x", "usr/share/doc/copyright.txt"],
    )  # fmt: skip
    def test_goes(self, path: str) -> None:
        assert self.edit(entry(path)) is None

    @pytest.mark.parametrize(
        "path", ["usr/share/doc/bash/copyright", "usr/share/manners", "etc/man.conf", "usr/share/zoneinfo/UTC"]
    )
    def test_licences_and_everything_else_stay(self, path: str) -> None:
        assert self.edit(entry(path)) == entry(path)

    def test_directories_stay(self) -> None:
        found = entry("usr/share/man", EntryType.DIRECTORY)
        assert self.edit(found) == found

    def test_stays_when_it_is_not_asked_to_go(self) -> None:
        assert hardening_edit(Hardening())(entry("usr/share/man/x")) is not None


class TestPackageManager:
    FILES = ("/.", "/usr", "/usr/bin", "/usr/bin/apt-get", "/usr/bin/dpkg")

    def test_goes_file_by_file(self) -> None:
        edit = hardening_edit(Hardening(remove_package_manager=True), self.FILES)
        assert edit(entry("usr/bin/apt-get")) is None
        assert edit(entry("usr/bin/dpkg", EntryType.SYMLINK)) is None
        assert edit(entry("usr/bin/ls")) is not None
        assert edit(entry("usr/bin", EntryType.DIRECTORY)) is not None

    def test_its_database_stays_for_scanners(self) -> None:
        edit = hardening_edit(Hardening(remove_package_manager=True), self.FILES)
        assert edit(entry("var/lib/dpkg/status")) is not None

    def test_stays_when_it_is_not_asked_to_go(self) -> None:
        assert hardening_edit(Hardening(), self.FILES)(entry("usr/bin/apt-get")) is not None


class TestContent:
    def test_is_text_or_bytes(self) -> None:
        assert content_of(File(path="/a", content="é\n")) == "é\n".encode()
        assert content_of(File(path="/a", content_base64="AP8=")) == b"\x00\xff"
        assert content_of(File(path="/a", content="")) == b""
