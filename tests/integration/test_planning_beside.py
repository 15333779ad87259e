"""Packages from a signed archive beside Debian's, with the real apt: resolved, locked and fetched as Debian's are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builder.planning.apt import AptArchive, ArchiveUnavailable
from builder.planning.debs import DebStore
from builder.planning.extra import ExtraArchive
from builder.planning.mirrored import MirrorSource
from builder.planning.mirrors import MirrorUnknown, find_mirrors
from tests.integration.signed_archive import acme_archive, small_package


def planned(directory: Path, *extra: ExtraArchive) -> AptArchive:
    return AptArchive(
        directory / "apt",
        mirrors=replace(find_mirrors(None, None), extra=extra),
        suite="trixie",
        components=["main"],
        architecture="amd64",
        debs=DebStore(directory / "debs"),
        index_seconds=3600,
    )


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_package_that_only_it_has_is_locked_under_its_makers_name(tmp_path: Path) -> None:
    with acme_archive(tmp_path, small_package(tmp_path, "acme-tool")) as acme:
        archive = planned(tmp_path, acme)
        assert "Acme" in {one.label for one in archive.refresh()}
        [found] = archive.resolve(["acme-tool"]).packages
        assert found.purl == "pkg:deb/acme/acme-tool@1.0?arch=all"
        assert found.path == "pool/main/a/acme-tool/acme-tool_1.0_all.deb"
        assert archive.stated([found.sha256]) == [found]
        source = MirrorSource(replace(find_mirrors(None, None), extra=(acme,)))
        assert source.fetch(found, tmp_path / "again.deb")


def test_a_package_of_debian_stays_debians_whatever_version_it_offers(tmp_path: Path) -> None:
    with acme_archive(tmp_path, small_package(tmp_path, "tini", "99.0")) as acme:
        archive = planned(tmp_path, acme)
        archive.refresh()
        [tini] = [one for one in archive.resolve(["tini"]).packages if one.name == "tini"]
        assert tini.version != "99.0"
        assert tini.purl.startswith("pkg:deb/debian/tini@")


def test_another_signature_than_that_of_its_keyring_is_not_believed(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    package = small_package(tmp_path, "acme-tool")
    with acme_archive(mine, package) as ours, acme_archive(theirs, package) as other:
        archive = planned(tmp_path, other.model_copy(update={"keyring": ours.keyring}))
        with pytest.raises(ArchiveUnavailable):
            archive.refresh()


def test_one_that_calls_itself_debian_is_refused(tmp_path: Path) -> None:
    package = small_package(tmp_path, "tini", "99.0")
    with (
        acme_archive(tmp_path, package, origin="Debian") as acme,
        pytest.raises(MirrorUnknown, match="that is Debian's name"),
    ):
        planned(tmp_path, acme).refresh()


def test_an_archive_for_another_suite_is_not_asked(tmp_path: Path) -> None:
    with acme_archive(tmp_path, small_package(tmp_path, "acme-tool"), suite="bookworm") as acme:
        assert "Acme" not in {one.label for one in planned(tmp_path, acme).refresh()}
