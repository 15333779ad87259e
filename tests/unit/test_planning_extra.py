"""The file of archives beside Debian's: read strictly, told by line, and put where apt believes one keyring each."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import SettingsInvalid
from builder.planning.extra import read_extra_archives
from builder.planning.mirrors import Mirrors, MirrorUnknown, find_mirrors

FILE = """\
apiVersion: goldsmith/v1
kind: ExtraArchives
archives:
  - vendor: acme
    url: https://packages.acme.example/debian/
    keyring: acme.gpg
    suites: [trixie]
    components: [main, extra]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "acme.gpg").write_bytes(b"keys")
    path = tmp_path / "archives.yaml"
    path.write_text(FILE)
    return path


def test_its_packages_are_believed_by_its_own_keyring_alone_and_for_its_suites(file: Path) -> None:
    mirrors = Mirrors("http://d.example/debian", "http://d.example/security", read_extra_archives(file))
    keyring = file.with_name("acme.gpg")
    [line] = [one for one in mirrors.sources("trixie", ["main"]).splitlines() if "acme" in one]
    assert line == f"deb [signed-by={keyring}] https://packages.acme.example/debian trixie main extra"
    assert "acme" not in mirrors.sources("bookworm", ["main"])


def test_what_lies_below_its_url_is_its_makers(file: Path) -> None:
    mirrors = Mirrors("http://d.example/debian", "http://d.example/security", read_extra_archives(file))
    assert [mirrors.vendor(base) for base in mirrors.bases] == [None, None, "acme"]


def test_an_archive_below_anothers_url_keeps_its_maker(file: Path) -> None:
    [acme] = read_extra_archives(file)
    below = acme.model_copy(update={"url": "http://d.example/debian/acme"})
    mirrors = Mirrors("http://d.example/debian", "http://d.example/security", (below,))
    assert mirrors.place("http://d.example/debian/acme/pool/a.deb") == ("http://d.example/debian/acme", "pool/a.deb")
    assert mirrors.place("http://d.example/debian/pool/a.deb") == ("http://d.example/debian", "pool/a.deb")
    assert mirrors.place("http://e.example/debian/pool/a.deb") is None
    with pytest.raises(MirrorUnknown):
        find_mirrors("http://d.example/debian/acme/", "http://d.example/security", (below,))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("vendor: acme", "vendor: debian", "names Debian's own packages"),
        ("suites: [trixie]", "suite: trixie", "line 7, column 5: archives[0].suite: unknown key"),
        ("https://packages", "ftp://packages", "line 5, column 5: archives[0].url"),
        ("https://packages.acme.example/debian/", '"https://a.example/ trixie main"', "archives[0].url"),
        ("https://packages.acme.example/debian/", '"https://[trusted=yes]/"', "archives[0].url"),
        ("keyring: acme.gpg", "keyring: none.gpg", "there is no keyring"),
        ("keyring: acme.gpg", '"keyring": "a.gpg trusted=yes"', "archives[0].keyring"),
        ("[trixie]", "[]", "archives[0].suites"),
        ("kind: ExtraArchives", "kind: Archives", "kind"),
    ],
)
def test_a_mistake_is_told_with_its_place(file: Path, old: str, new: str, told: str) -> None:
    file.write_text(FILE.replace(old, new))
    with pytest.raises(SettingsInvalid) as caught:
        read_extra_archives(file)
    assert "GOLDSMITH_EXTRA_ARCHIVES" in str(caught.value)
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        read_extra_archives(tmp_path / "none.yaml")
