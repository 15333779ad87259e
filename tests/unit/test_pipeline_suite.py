"""What a base says of itself is somebody else's word: it becomes a suite only if it is a suite's name."""

from __future__ import annotations

from typing import Any, cast

import pytest

from builder.engine.container import Container
from builder.pipeline.resolving import SuiteUnclear, _suite


class Files:
    """A container as far as it is read."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def read(self, path: str) -> bytes | None:
        return self._files.get(path)


def suite_of(text: bytes, path: str = "/usr/lib/os-release") -> str:
    return _suite(cast("Container", Files({path: b'NAME="Debian"\n' + text})))


@pytest.mark.parametrize(
    "text",
    [
        b"VERSION_CODENAME=trixie\n",
        b"VERSION_CODENAME=trixie",
        b'VERSION_CODENAME="trixie"\n',
        b"VERSION_CODENAME='trixie' \n",
    ],
)
def test_the_suite_is_what_os_release_says(text: bytes) -> None:
    assert suite_of(text) == suite_of(text, "/etc/os-release") == "trixie"


@pytest.mark.parametrize(
    "name",
    [
        "../../../../tmp/x", "trixie main contrib", "--customize-hook=sh", "trixie/", "", "TRIXIE", "x" * 40,
        "trixie\x00", "trixié",
    ],
)  # fmt: skip
def test_what_could_be_a_path_an_option_or_more_than_one_word_is_refused(name: str) -> None:
    with pytest.raises(SuiteUnclear, match="is no name of a suite") as caught:
        suite_of(f'VERSION_CODENAME="{name}"\n'.encode())
    assert len(caught.value.detail) < 200
    assert caught.value.hint == "packages need a Debian base"


@pytest.mark.parametrize("files", [{}, {"/usr/lib/os-release": b""}, {"/etc/os-release": b"ID=alpine\n\xff"}])
def test_a_base_that_says_nothing_is_no_debian(files: dict[str, Any]) -> None:
    with pytest.raises(SuiteUnclear, match="has no VERSION_CODENAME"):
        _suite(cast("Container", Files(files)))
