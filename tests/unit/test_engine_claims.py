"""What an image says of itself stays as it was once its packages are in, whatever a recipe's commands write."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from builder.engine.claims import Claims, PackagesVanished, ReleaseChanged, parse_status, refuse_changed
from builder.image.canonical import canonicalise

LIBSSL = (
    "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\nVersion: 3.0.8-1\n"
    "Description: library\n of ciphers"
)
BASH = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1"
REMOVED = "Package: old\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1"
NEW = "Package: mine\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nDescription:\n of mine"


def claims(*stanzas: str, **releases: str) -> Claims:
    return Claims("".join(f"{one}\n\n" for one in stanzas).encode(), {k: v.encode() for k, v in releases.items()})


BEFORE = claims(LIBSSL, BASH, REMOVED)


class TestStatus:
    def test_names_what_is_installed_and_nothing_else(self) -> None:
        status = (
            b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nDescription: x\n Status: y\n\n"
            b"Package: b\nStatus: deinstall ok config-files\nVersion: 2\nArchitecture: all\n\n"
            b"Package: c\nStatus: install ok half-configured\nVersion: 3\nArchitecture: all\n\n"
            b"Package: d\nStatus: install ok installed\nVersion: 1:4\nArchitecture: amd64\nMaintainer: \xff\n"
        )
        assert parse_status(status) == {("a", "1", "all"), ("d", "1:4", "amd64")}

    def test_that_is_not_whole_is_passed_over(self) -> None:
        assert parse_status(b"Package: a\nStatus: install ok installed\n\nnonsense\n") == set()

    def test_of_nothing_is_nothing(self) -> None:
        assert parse_status(b"") == set()

    @pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
    def test_a_line_ends_where_it_does_for_dpkg_so_that_none_hides_a_package_in_another(self, end: str) -> None:
        hidden = end.join(("Description: x", "Package: gone", "Version: 9"))
        status = f"Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n{hidden}\n"
        assert parse_status(status.encode()) == {("a", "1", "all")}


class TestPackages:
    @pytest.mark.parametrize(
        "after",
        [(LIBSSL, BASH, REMOVED), (BASH, REMOVED, LIBSSL), (LIBSSL, BASH), (LIBSSL, BASH, REMOVED, NEW)],
        ids=["the same", "in another order", "purged", "one more"],
    )
    def test_may_be_added_and_what_is_not_installed_may_go(self, after: tuple[str, ...]) -> None:
        refuse_changed(BEFORE, claims(*after))

    @pytest.mark.parametrize(
        "libssl",
        [
            LIBSSL.replace("Version: 3.0.8-1", "version: 99\nVersion: 3.0.8-1"),
            LIBSSL.replace("Source: openssl", "Source: nothing"),
            f"Package: decoy\n{LIBSSL}",
            LIBSSL.replace("Description", "no colon\nDescription"),
            LIBSSL.replace("Version: 3.0.8-1", "Version: 3.0.9-1"),
            LIBSSL.replace("install ok installed", "deinstall ok config-files"),
            LIBSSL.replace("\n", "\r\n"),
            f"{BASH}\n{LIBSSL}",
            f"{LIBSSL}\n \nX: y",
            "",
        ],
    )
    def test_may_not_be_changed_in_a_way_that_a_scanner_might_read_otherwise(self, libssl: str) -> None:
        with pytest.raises(PackagesVanished, match=r"libssl3 3\.0\.8-1"):
            refuse_changed(BEFORE, claims(libssl, BASH, REMOVED))

    @pytest.mark.parametrize(
        ("new", "says"),
        [
            (NEW.replace("Version: 1", "Version: 1\nversion: 2"), "more ways than one"),
            (NEW.replace("Version: 1", "Version: 1\nnonsense"), "more ways than one"),
            (NEW.replace("Version: 1", "Version: 1\r"), "more ways than one"),
            (LIBSSL.replace("3.0.8-1", "99"), "libssl3 twice"),
        ],
    )
    def test_that_are_added_can_be_read_in_one_way_alone(self, new: str, says: str) -> None:
        with pytest.raises(PackagesVanished, match=says):
            refuse_changed(BEFORE, claims(LIBSSL, BASH, new))

    def test_that_have_a_file_each_keep_it_as_it_was(self) -> None:
        path = "var/lib/dpkg/status.d/libssl3"
        before = Claims(singles={path: LIBSSL.encode()})
        refuse_changed(before, Claims(singles={path: LIBSSL.encode(), f"{path}.more": b""}))
        for after in ({}, {path: LIBSSL.replace("3.0.8-1", "99").encode()}):
            with pytest.raises(PackagesVanished, match="libssl3 is not what it was"):
                refuse_changed(before, Claims(singles=after))

    def test_are_all_gone_with_their_database(self) -> None:
        with pytest.raises(PackagesVanished, match="2 packages"):
            refuse_changed(BEFORE, Claims())


class TestRelease:
    WAS = claims(**{"etc/debian_version": "12.9\n", "etc/os-release": "-> ../usr/lib/os-release"})

    @pytest.mark.parametrize(
        "now",
        [
            {"etc/debian_version": "13.0\n"},
            {"etc/alpine-release": "3.20\n"},
            {"etc/os-release": "ID=debian\n"},
            {"etc/debian_version": None},
        ],
    )
    def test_may_not_be_changed_added_to_or_removed(self, now: dict[str, str | None]) -> None:
        after = {**self.WAS.releases, **{path: text.encode() if text else b"" for path, text in now.items()}}
        found = {path: text for path, text in after.items() if text}
        with pytest.raises(ReleaseChanged, match=f"/{next(iter(now))} says"):
            refuse_changed(self.WAS, Claims(b"", found))
        refuse_changed(self.WAS, self.WAS)

    def test_is_read_from_a_tree_where_scanners_look(self, tmp_path: Path) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            link = tarfile.TarInfo("etc/os-release")
            link.type, link.linkname = tarfile.SYMTYPE, "../usr/lib/os-release"
            tar.addfile(link)
            for name in (
                "etc/debian_version", "etc/hostname.d/x-release", "usr/lib/os-release", "var/lib/dpkg/status",
                "var/lib/dpkg/status.d/base",
            ):  # fmt: skip
                info = tarfile.TarInfo(name)
                info.size = len(name)
                tar.addfile(info, io.BytesIO(name.encode()))
        out.seek(0)
        with canonicalise(out, spool_dir=tmp_path, epoch=0) as tree:
            found = Claims.of_tree(tree)
        assert found.status == b"var/lib/dpkg/status"
        assert found.singles == {"var/lib/dpkg/status.d/base": b"var/lib/dpkg/status.d/base"}
        assert found.releases == {
            "etc/debian_version": b"etc/debian_version",
            "etc/os-release": b"-> ../usr/lib/os-release",
            "usr/lib/os-release": b"usr/lib/os-release",
        }
