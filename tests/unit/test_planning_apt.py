"""apt's configuration is written from words, and from nothing that could be more than a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.planning.apt import AptArchive, SuiteUnknown
from builder.planning.debs import DebStore
from builder.planning.lock import LockedPackage
from builder.planning.mirrors import Mirrors

EVIL = [
    'trixie"; APT::Update::Pre-Invoke {"touch /tmp/x"}; X "',
    "trixie main\ndeb [trusted=yes] http://mirror.example ./",
    "../../../tmp/x",
    "-o",
    "",
    "trixie ",
    "trixie\n",
    "Trixie",
    "trixie/",
]


def archive(directory: Path, **changes: Any) -> AptArchive:
    words = {"suite": "trixie", "components": ["main", "non-free-firmware"], "architecture": "amd64", **changes}
    return AptArchive(
        directory / "apt",
        mirrors=Mirrors("http://mirror.example/debian", "http://mirror.example/security"),
        debs=DebStore(directory / "debs"),
        index_seconds=60,
        **words,
    )


@pytest.mark.parametrize("word", EVIL)
@pytest.mark.parametrize("name", ["suite", "architecture", "components"])
def test_what_is_no_word_is_refused_before_anything_is_written(tmp_path: Path, name: str, word: str) -> None:
    with pytest.raises(SuiteUnknown, match="is no suite, component or architecture") as caught:
        archive(tmp_path, **{name: ["main", word] if name == "components" else word})
    assert len(caught.value.detail) < 160
    assert not (tmp_path / "apt").exists()


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"suite": "bookworm-backports"},
        {"suite": "sid"},
        {"architecture": "arm64"},
        {"architecture": "kfreebsd-i386"},
    ],
)
def test_what_archives_have_is_taken(tmp_path: Path, words: dict[str, Any]) -> None:
    archive(tmp_path, **words)


def stanza(name: str, sha256: str, *more: str) -> str:
    lines = [
        f"Package: {name}", "Version: 1:2.0~rc1-1+b2", "Installed-Size: 90", "Architecture: all", *more,
        f"Filename: pool/main/{name}.deb", "Size: 7", f"SHA256: {sha256}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def said(name: str, sha256: str) -> LockedPackage:
    return LockedPackage(
        name=name, version="1:2.0~rc1-1+b2", architecture="all", size=7, sha256=sha256, path=f"pool/main/{name}.deb"
    )


class TestWhatIndexesState:
    A, B, C = "a" * 64, "b" * 64, "c" * 64

    def kept(self, directory: Path, **indexes: str) -> AptArchive:
        """With these indexes, as apt lays them down."""
        made = archive(directory)
        lists = made._root / "lists"
        lists.mkdir(parents=True)
        for name, text in indexes.items():
            (lists / name).write_text(text, "utf-8")
        return made

    def test_is_all_of_a_package_that_a_lock_holds(self, tmp_path: Path) -> None:
        text = stanza("one", self.A) + "\n" + stanza("two", self.B) + "\n"
        made = self.kept(tmp_path, mirror_Packages=text)
        assert made.stated([self.B]) == [said("two", self.B)]
        assert made.stated({self.A: 1, self.B: 2}.keys()) == [said("one", self.A), said("two", self.B)]

    def test_ends_with_the_file_whether_or_not_a_line_is_empty_there(self, tmp_path: Path) -> None:
        text = stanza("one", self.A) + "\n" + stanza("two", self.B)
        for number, end in enumerate((text, text.rstrip("\n"), text + "\n\n\n")):
            made = self.kept(tmp_path / str(number), mirror_Packages=end)
            assert made.stated([self.A, self.B]) == [said("one", self.A), said("two", self.B)]

    def test_is_nothing_of_what_they_do_not_name(self, tmp_path: Path) -> None:
        made = self.kept(tmp_path, mirror_Packages=stanza("one", self.A))
        assert made.stated([self.B, self.A[:-1], self.A.upper(), ""]) == []
        assert made.stated([]) == []

    def test_is_in_all_of_an_archives_indexes_and_nowhere_else(self, tmp_path: Path) -> None:
        made = self.kept(
            tmp_path, main_Packages=stanza("one", self.A), security_Packages=stanza("two", self.B),
            main_InRelease=stanza("three", self.C), main_Sources=stanza("three", self.C),
        )  # fmt: skip
        assert made.stated([self.A, self.B, self.C]) == [said("one", self.A), said("two", self.B)]

    @pytest.mark.parametrize("indent", [" ", "\t", "  "])
    def test_is_no_field_that_a_longer_text_only_mentions(self, tmp_path: Path, indent: str) -> None:
        told = [f"Description: long{indent}", f"{indent}Package: libc6", f"{indent}SHA256: {self.C}", f"{indent}."]
        for number, text in enumerate((stanza("one", self.A, *told), stanza("one", self.A) + "\n".join(told) + "\n")):
            made = self.kept(tmp_path / str(number), mirror_Packages=text)
            assert made.stated([self.C]) == []
            assert made.stated([self.A]) == [said("one", self.A)]

    def test_is_of_one_package_even_where_the_one_before_says_more(self, tmp_path: Path) -> None:
        """A stanza without a digest takes none from its neighbours."""
        bare = "Package: bare\nVersion: 1\nArchitecture: all\nFilename: pool/bare.deb\nSize: 7\n"
        made = self.kept(tmp_path, mirror_Packages=stanza("one", self.A) + "\n" + bare + "\n" + stanza("two", self.B))
        assert made.stated([self.A, self.B]) == [said("one", self.A), said("two", self.B)]

    def test_is_read_whatever_letters_other_fields_have(self, tmp_path: Path) -> None:
        made = self.kept(tmp_path, mirror_Packages="")
        maintainer = "Maintainer: Ond\u0159ej".encode() + b" \xff\n"
        [index] = (made._root / "lists").iterdir()
        index.write_bytes(maintainer + stanza("one", self.A).encode())
        assert made.stated([self.A]) == [said("one", self.A)]

    def test_is_nothing_before_there_are_any(self, tmp_path: Path) -> None:
        assert archive(tmp_path).stated([self.A]) == []
