"""Which releases a database knows, read from its file: whole, large, cut short or made up."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.scanning.errors import DatabaseCorrupt
from builder.scanning.findings import OperatingSystem
from builder.scanning.platforms import buckets, covers
from builder.scanning.sample import bolt

ADVISORY = {b"openssl": {b"CVE-1": b"{}"}}
KNOWN = (
    "debian 12", "debian 13", "ubuntu 24.04", "alpine 3.20", "rocky 9", "alma 9", "oracle linux", "Oracle Linux 9",
    "amazon linux 2023", "Photon OS 5.0", "CBL-Mariner 2.0", "Azure Linux 3.0", "Red Hat", "wolfi", "chainguard",
)  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "trivy.db"
    path.write_bytes(bolt.write({name.encode(): ADVISORY for name in KNOWN}))
    return path


def covered(database: Path, family: str, name: str, **more: bool) -> bool | None:
    return covers(buckets(database), OperatingSystem(family=family, name=name, **more))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("debian", "12"), ("debian", "12.11"), ("debian", "13.1"), ("ubuntu", "24.04"), ("alpine", "3.20.3"),
        ("rocky", "9.4"), ("alma", "9.4"), ("oracle", "9.4"), ("amazon", "2023 (Amazon Linux)"), ("photon", "5.0"),
        ("cbl-mariner", "2.0.20240101"), ("azurelinux", "3.0"), ("redhat", "9.4"), ("centos", "7"),
        ("wolfi", "20230201"), ("chainguard", "20230214"),
    ],
)  # fmt: skip
def test_a_release_that_it_has_advisories_for_is_covered(database: Path, family: str, name: str) -> None:
    assert covered(database, family, name) is True


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("debian", "11"), ("debian", "1"), ("debian", "120"), ("debian", ""), ("debian", " "), ("debian", "sid"),
        ("debian", "trixie/sid"), ("ubuntu", "24.10"), ("ubuntu", "24"), ("alpine", "3.2"), ("Debian", "12"),
        ("gentoo", ""), ("none", ""), ("", "12"), ("opensuse-leap", "15.6"),
    ],
)  # fmt: skip
def test_any_other_is_not(database: Path, family: str, name: str) -> None:
    assert covered(database, family, name) is False


def test_a_release_past_its_end_of_life_is_not(database: Path) -> None:
    assert covered(database, "debian", "12", end_of_life=True) is False


def test_of_what_does_not_say_what_it_is_nobody_knows(database: Path) -> None:
    assert covers(buckets(database), None) is None


def test_a_name_that_is_no_bucket_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "trivy.db").write_bytes(bolt.write({b"debian 12": b"a plain value", b"debian 13": ADVISORY}))
    assert buckets(tmp_path / "trivy.db") == {"debian 13"}


@given(st.sets(st.binary(min_size=1, max_size=200), max_size=300))
@settings(max_examples=40, deadline=None)
def test_every_bucket_is_read_however_many_pages_they_take(
    tmp_path_factory: pytest.TempPathFactory, names: set[bytes]
) -> None:
    path = tmp_path_factory.mktemp("many") / "trivy.db"
    path.write_bytes(bolt.write(dict.fromkeys(names, ADVISORY)))
    assert buckets(path) == {name.decode("utf-8", "replace") for name in names}


class TestDamage:
    def test_a_missing_or_empty_file_is_no_database(self, tmp_path: Path) -> None:
        with pytest.raises(DatabaseCorrupt, match=r"trivy.db cannot be read"):
            buckets(tmp_path / "trivy.db")
        (tmp_path / "trivy.db").touch()
        with pytest.raises(DatabaseCorrupt):
            buckets(tmp_path / "trivy.db")

    def test_one_that_is_cut_short_is_told(self, database: Path, tmp_path: Path) -> None:
        whole = database.read_bytes()
        for size in range(0, len(whole) - bolt.PAGE_SIZE, bolt.PAGE_SIZE // 2):
            (tmp_path / "trivy.db").write_bytes(whole[:size])
            with pytest.raises(DatabaseCorrupt):
                buckets(tmp_path / "trivy.db")

    def test_a_tree_that_bites_its_tail_ends(self, tmp_path: Path) -> None:
        names = {f"{number:0190d}".encode(): ADVISORY for number in range(100)}
        content = bytearray(bolt.write(names))
        _, root = bolt.root_of(bytes(content[: 2 * bolt.LARGEST_PAGE_SIZE]))
        start = root * bolt.PAGE_SIZE
        assert content[start + 8] == 1, "the root is a branch"
        content[start + 16 + 8 : start + 16 + 16] = root.to_bytes(8, "little")
        (tmp_path / "trivy.db").write_bytes(content)
        with pytest.raises(DatabaseCorrupt, match="no end"):
            buckets(tmp_path / "trivy.db")

    @given(st.integers(0, 2**32), st.integers(1, 255))
    @settings(max_examples=300, deadline=None)
    def test_no_byte_can_make_it_fail_in_another_way(
        self, database: Path, tmp_path_factory: pytest.TempPathFactory, place: int, change: int
    ) -> None:
        content = bytearray(database.read_bytes())
        content[place % len(content)] ^= change
        path = tmp_path_factory.getbasetemp() / "changed.db"
        path.write_bytes(content)
        with suppress(DatabaseCorrupt):
            assert all(isinstance(name, str) for name in buckets(path))
