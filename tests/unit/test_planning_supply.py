"""Locked packages are brought from the first place that has their exact bytes, and nothing else gets into the store."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from builder.errors import Cancelled, Unavailable
from builder.planning.debs import DebStore, MaterialCorrupt
from builder.planning.lock import LockedPackage
from builder.planning.supply import MaterialGone, Source, Supply


def named(name: str, content: bytes = b"") -> LockedPackage:
    content = content or name.encode()
    return LockedPackage(
        name=name,
        version="1.0",
        architecture="amd64",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        path=f"pool/{name}.deb",
    )


class Shelf:
    """A place that has some packages, by their names, whatever their bytes are."""

    def __init__(self, name: str, *contents: str, wrong: str | None = None) -> None:
        self.name = name
        self.contents = {content: content.encode() for content in contents}
        if wrong:
            self.contents[wrong] = b"other bytes"
        self.asked: list[str] = []

    def fetch(self, package: LockedPackage, destination: Path) -> bool:
        self.asked.append(package.name)
        if package.name not in self.contents:
            return False
        destination.write_bytes(self.contents[package.name])
        return True


class Away:
    name = "the registry"

    def fetch(self, package: LockedPackage, destination: Path) -> bool:
        raise Unavailable("the registry does not answer")


@pytest.fixture
def debs(tmp_path: Path) -> DebStore:
    return DebStore(tmp_path / "debs")


def brought(debs: DebStore, packages: list[LockedPackage], *sources: Source) -> dict[str, int]:
    supply = Supply(debs, sources)
    supply.bring(packages)
    return supply.brought


def stored(debs: DebStore, tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "debs").iterdir())


def test_everything_is_in_the_store_afterwards_with_its_exact_bytes(debs: DebStore) -> None:
    packages = [named(f"p{number}") for number in range(20)]
    assert brought(debs, packages, Shelf("a", *(one.name for one in packages))) == {"a": 20}
    for one in packages:
        assert debs.verified(one).read_bytes() == one.name.encode()


def test_sources_are_asked_in_their_order_and_no_further_than_needed(debs: DebStore) -> None:
    first, second, third = Shelf("first", "a"), Shelf("second", "a", "b"), Shelf("third", "a", "b", "c")
    assert brought(debs, [named(n) for n in "abc"], first, second, third) == {"first": 1, "second": 1, "third": 1}
    assert (sorted(first.asked), sorted(second.asked), third.asked) == (["a", "b", "c"], ["b", "c"], ["c"])


def test_what_is_kept_already_is_asked_of_nobody(debs: DebStore) -> None:
    shelf = Shelf("a", "x", "y")
    brought(debs, [named("x")], shelf)
    shelf.asked.clear()
    assert brought(debs, [named("x"), named("y")], shelf) == {"cache": 1, "a": 1}
    assert shelf.asked == ["y"]
    assert brought(debs, [named("x"), named("y")]) == {"cache": 2}


def test_nothing_to_bring_is_brought_at_once(debs: DebStore) -> None:
    assert brought(debs, [], Away()) == {}


def test_other_bytes_under_a_locked_name_are_refused_by_that_name_and_not_kept(debs: DebStore, tmp_path: Path) -> None:
    with pytest.raises(MaterialCorrupt) as caught:
        brought(debs, [named("bash")], Shelf("the shelf", wrong="bash"), Shelf("a good one", "bash"))
    assert "bash 1.0, as the shelf has it, is not what was locked" in caught.value.detail
    assert named("bash").sha256 in caught.value.detail
    assert hashlib.sha256(b"other bytes").hexdigest() in caught.value.detail
    assert "nothing was built from it" in (caught.value.hint or "")
    assert stored(debs, tmp_path) == []


def test_what_nobody_has_any_more_is_told_with_all_who_were_asked(debs: DebStore, tmp_path: Path) -> None:
    with pytest.raises(MaterialGone) as caught:
        brought(debs, [named("bash")], Shelf("the registry"), Shelf("the archive"))
    assert "bash 1.0" in caught.value.detail
    assert named("bash").sha256[:12] in caught.value.detail
    assert "asked: the registry, the archive" in caught.value.detail
    assert "goldsmith recipe lock" in (caught.value.hint or "")
    assert not caught.value.retryable
    assert stored(debs, tmp_path) == []


def test_without_any_source_only_the_cache_was_asked(debs: DebStore) -> None:
    with pytest.raises(MaterialGone, match="asked: nothing but the cache"):
        brought(debs, [named("bash")])


def test_a_source_that_does_not_answer_is_not_one_that_has_nothing(debs: DebStore) -> None:
    with pytest.raises(Unavailable, match="does not answer") as caught:
        brought(debs, [named("bash")], Away(), Shelf("b", "bash"))
    assert caught.value.retryable


def test_one_that_is_missing_keeps_none_of_the_others_from_the_store(debs: DebStore, tmp_path: Path) -> None:
    with pytest.raises(MaterialGone, match="gone"):
        brought(debs, [named("a"), named("gone")], Shelf("shelf", "a"))
    assert stored(debs, tmp_path) == [f"{named('a').sha256}.deb"]


def test_packages_are_fetched_at_once(debs: DebStore) -> None:
    together = threading.Barrier(4, timeout=20)

    class Slow(Shelf):
        def fetch(self, package: LockedPackage, destination: Path) -> bool:
            together.wait()
            return super().fetch(package, destination)

    assert brought(debs, [named(n) for n in "abcd"], Slow("slow", *"abcd")) == {"slow": 4}


def test_the_same_package_twice_is_no_harm(debs: DebStore) -> None:
    assert sum(brought(debs, [named("a")] * 8, Shelf("shelf", "a")).values()) == 8
    assert debs.verified(named("a")).read_bytes() == b"a"


def test_whoever_is_told_to_stop_fetches_no_more(debs: DebStore, tmp_path: Path) -> None:
    shelf = Shelf("shelf", *(f"p{number}" for number in range(200)))

    def check() -> None:
        if len(shelf.asked) >= 3:
            raise Cancelled("the build was cancelled on request")

    with pytest.raises(Cancelled):
        Supply(debs, [shelf], check).bring([named(f"p{number}") for number in range(200)])
    assert len(shelf.asked) < 10


def test_a_name_of_any_length_that_a_lock_may_hold_is_fetched(debs: DebStore) -> None:
    longest = named("a").model_copy(update={"name": "a" * 200, "version": "1" * 200, "architecture": "b" * 200})
    shelf = Shelf("shelf")
    shelf.contents[longest.name] = b"a"
    assert brought(debs, [longest], shelf) == {"shelf": 1}


def test_another_size_than_the_locked_one_is_told_whether_it_comes_or_is_kept_already(debs: DebStore) -> None:
    lied = named("bash").model_copy(update={"size": 5})
    for sources in ([Shelf("shelf", "bash")], []):
        with pytest.raises(MaterialCorrupt, match=r"bash 1\.0 has 4 bytes; the lock says 5"):
            brought(debs, [lied], *sources)


def test_nothing_is_left_lying_about(debs: DebStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    brought(debs, [named("a")], Shelf("shelf", "a"))
    for refused, shelf in ((MaterialCorrupt, Shelf("s", wrong="b")), (MaterialGone, Shelf("s"))):
        with pytest.raises(refused):
            brought(debs, [named("b")], shelf)
    assert list((tmp_path / "tmp").iterdir()) == []
