"""The key of a build: what decides the image changes it, and what decides nothing does not."""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from builder.planning import keys
from builder.planning.keys import build_key
from builder.planning.lock import Lock, LockedArchive, LockedFile
from tests.unit.locks import HEX, PACKAGES, lock, locks, on_image

RECIPE = "sha256:" + "1" * 64


@given(locks())
def test_the_same_inputs_have_the_same_key(made: Lock) -> None:
    again = Lock.model_validate_json(made.model_dump_json(by_alias=True))
    assert build_key(RECIPE, made) == build_key(RECIPE, again)
    assert re.fullmatch("sha256:[0-9a-f]{64}", build_key(RECIPE, made))


@given(locks(), st.text(max_size=20), HEX, st.text(max_size=20))
def test_who_made_the_lock_and_from_which_index_decides_nothing(
    made: Lock, builder: str, sha256: str, date: str
) -> None:
    archive = LockedArchive(suite="trixie", label=date, release_sha256=sha256, date=date)
    other = made.model_copy(update={"builder": builder, "archives": (archive,)})
    assert build_key(RECIPE, other) == build_key(RECIPE, made)


@given(locks())
def test_where_an_archive_keeps_a_package_decides_nothing(made: Lock) -> None:
    moved = tuple(one.model_copy(update={"path": "pool/elsewhere.deb"}) for one in made.packages)
    assert build_key(RECIPE, made.model_copy(update={"packages": moved})) == build_key(RECIPE, made)


def edits(made: Lock) -> dict[str, dict[str, Any]]:
    """One change of each input that decides an image."""
    base = made.base
    other = base.model_copy(update={"packages": base.packages[:-1]}) if base.packages else base
    return {
        "epoch": {"epoch": made.epoch ^ 1},
        "architecture": {"base": base.model_copy(update={"architecture": "riscv64"})},
        "base": {"base": base.model_copy(update={"image": "sha256:" + "9" * 64})},
        "bootstrap": {"base": other},
        "packages": {"packages": made.packages[:-1]},
        "a package moved into the bootstrap": {
            "base": base.model_copy(update={"packages": (*base.packages, *made.packages)}),
            "packages": (),
        },
        "files": {"files": (*made.files, LockedFile(path="/new", sha256="0" * 64))},
        "a file's content": {"files": tuple(one.model_copy(update={"sha256": "e" * 64}) for one in made.files)},
        "a file's place": {"files": tuple(one.model_copy(update={"path": one.path + "x"}) for one in made.files)},
    }


@pytest.mark.parametrize("name", edits(lock()))
@pytest.mark.parametrize("made", [lock(), on_image("sha256:" + "a" * 64, "debian")])
def test_every_input_of_the_lock_decides(made: Lock, name: str) -> None:
    other = made.model_copy(update=edits(made)[name])
    if name == "bootstrap" and not made.base.packages:
        assert other == made
    else:
        assert build_key(RECIPE, other) != build_key(RECIPE, made)


@given(locks(), st.sampled_from(sorted(edits(lock()))))
def test_every_input_of_any_lock_decides(made: Lock, name: str) -> None:
    other = made.model_copy(update=edits(made)[name])
    assume(other != made)
    assert build_key(RECIPE, other) != build_key(RECIPE, made)


@given(locks(), st.lists(PACKAGES, max_size=3).map(tuple))
def test_equal_keys_mean_equal_packages(made: Lock, packages: tuple[Any, ...]) -> None:
    other = made.model_copy(update={"packages": packages})
    same = [one.sha256 for one in other.packages] == [one.sha256 for one in made.packages]
    assert (build_key(RECIPE, other) == build_key(RECIPE, made)) == same


def test_the_recipe_decides() -> None:
    assert build_key(RECIPE, lock()) != build_key("sha256:" + "2" * 64, lock())


def test_the_builders_version_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    before = build_key(RECIPE, lock())
    monkeypatch.setattr(keys, "__version__", "0.0.0-other")
    assert build_key(RECIPE, lock()) != before


def test_few_locks_are_kept_alive_whoever_sends_them() -> None:
    made = [lock(epoch=number) for number in range(40)]
    assert len({build_key(one.digest, one) for one in made}) == 40
    still = [weakref.ref(one) for one in made]
    del made
    gc.collect()
    assert sum(one() is not None for one in still) <= 8
