"""apt's configuration is written from words, and from nothing that could be more than a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.planning.apt import AptArchive, SuiteUnknown
from builder.planning.debs import DebStore
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
