"""What an update of a lock brings: inputs that differ, in words; and nothing where only its making differs."""

from __future__ import annotations

import pytest
from hypothesis import given

from builder.planning.changes import PackageChange, changes_between
from builder.planning.lock import Lock, LockedArchive, LockedFile, Requested
from tests.unit.locks import lock, locks, on_image, package

ONE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def told(after: Lock, before: Lock | None = None) -> list[str]:
    return [str(change) for change in changes_between(before or lock(), after).packages]


@given(locks())
def test_a_lock_differs_from_itself_in_nothing(made: Lock) -> None:
    assert not changes_between(made, made).any


@given(locks(), locks())
def test_the_way_back_is_the_same_way(one: Lock, other: Lock) -> None:
    there, back = changes_between(one, other), changes_between(other, one)
    assert there.any == back.any
    assert there.files == back.files
    assert [(c.name, c.before, c.after) for c in there.packages] == [(c.name, c.after, c.before) for c in back.packages]


def test_who_made_a_lock_when_and_from_which_index_is_no_change() -> None:
    later = LockedArchive(suite="trixie", label="Debian", release_sha256="0" * 64, date="Mon, 23 Nov")
    after = lock(builder="goldsmith 9", archives=(later,), epoch=1_800_000_000)
    assert not changes_between(lock(), after).any


def test_packages_in_another_order_are_no_change() -> None:
    both = (package("hello", sha256="2" * 64), package("tini", sha256="3" * 64))
    assert not changes_between(lock(packages=both), lock(packages=both[::-1])).any


def test_a_new_package_is_told_with_its_version() -> None:
    after = lock(packages=(*lock().packages, package("tini", "0.19-1", "3" * 64)))
    assert told(after) == ["+ tini 0.19-1"]


def test_a_package_that_goes_is_told_with_its_version() -> None:
    assert told(lock(packages=())) == ["- hello 2.10-3"]


def test_another_version_is_told_with_both() -> None:
    assert told(lock(packages=(package("hello", "2.12-1", "3" * 64),))) == ["~ hello 2.10-3 -> 2.12-1"]


def test_the_same_version_with_other_bytes_is_told_as_what_should_never_be() -> None:
    after = lock(packages=(package("hello", "2.10-3", "3" * 64),))
    assert told(after) == ["! hello 2.10-3: the same version with other content"]
    assert changes_between(lock(), after).packages[0].rebuilt


def test_packages_of_the_base_count_too_and_all_come_by_name() -> None:
    base = lock().base.model_copy(update={"packages": (package("apt", "3.0", "4" * 64),)})
    after = lock(base=base, packages=(package("zlib1g", "1.3", "5" * 64), package("bash", "5.2", "6" * 64)))
    assert told(after) == ["~ apt 2.10-3 -> 3.0", "+ bash 5.2", "- hello 2.10-3", "- libc6 2.10-3", "+ zlib1g 1.3"]


def test_a_package_of_another_architecture_is_another_package() -> None:
    foreign = package("hello", sha256="7" * 64).model_copy(update={"architecture": "arm64"})
    changes = changes_between(lock(), lock(packages=(foreign,))).packages
    assert [(change.architecture, change.before, change.after) for change in changes] == [
        ("amd64", "2.10-3", None),
        ("arm64", None, "2.10-3"),
    ]


def test_another_base_is_told_by_both_digests() -> None:
    changes = changes_between(on_image(ONE, "debian"), on_image(OTHER, "debian"))
    assert changes.base == (ONE, OTHER)
    assert changes.any
    assert changes_between(lock(), on_image(ONE, "debian")).base == ("none", ONE)
    assert not changes_between(on_image(ONE, "debian"), on_image(ONE, "debian")).any


@pytest.mark.parametrize(
    ("files", "paths"),
    [
        ((), ("/etc/motd",)),
        ((LockedFile(path="/etc/motd", sha256="0" * 64),), ("/etc/motd",)),
        ((*lock().files, LockedFile(path="/a", sha256="0" * 64)), ("/a",)),
        ((LockedFile(path="/b", sha256="d" * 64),), ("/b", "/etc/motd")),
    ],
)
def test_files_that_come_go_or_differ_are_told_by_path(files: tuple[LockedFile, ...], paths: tuple[str, ...]) -> None:
    changes = changes_between(lock(), lock(files=files))
    assert (changes.files, changes.packages, changes.base) == (paths, (), None)
    assert changes.any


def test_another_request_is_a_change_even_where_it_resolves_to_the_same() -> None:
    asked = Requested(base=lock().requested.base, packages=("hello", "libc6"))
    changes = changes_between(lock(), lock(requested=asked))
    assert changes.requested
    assert changes.any
    assert changes.packages == ()


def test_a_change_says_which_package_it_is_about() -> None:
    assert PackageChange("a", "amd64", "1", "2").rebuilt is False
