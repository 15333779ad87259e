"""A lock holds for the recipe it was made for: whatever it resolved may not differ, and all else may."""

from __future__ import annotations

from typing import Any

import pytest

from builder.planning.agreement import LockStale, locked_files, refuse_stale, requested
from builder.planning.lock import Lock, LockedBase
from builder.recipes.model import Recipe
from builder.recipes.reading import recipe_from_data
from tests.unit.locks import lock, on_image, package

IMAGE = "registry.example:5000/debian"
ONE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
DEBIAN = {"debian": {"suite": "trixie"}}


def recipe(base: dict[str, Any] | None = None, **spec: Any) -> Recipe:
    whole = {
        "base": base or DEBIAN,
        "packages": ["hello", "tini"],
        "files": [{"path": "/etc/motd", "content": "welcome\n"}, {"path": "/etc/issue", "contentBase64": "AAE="}],
        "publish": {"repository": "golden/web"},
        **spec,
    }
    return recipe_from_data({"apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "web"}, "spec": whole})


def lock_of(made_for: Recipe, **changes: Any) -> Lock:
    """What resolving the recipe would give."""
    base = made_for.spec.base
    small = lock() if base.debian else on_image(base.image or ONE, base.recipe)
    return small.model_copy(update={"requested": requested(made_for), "files": locked_files(made_for), **changes})


def faults(now: Recipe, made: Lock) -> list[str]:
    """What is told, each as "field: message"."""
    with pytest.raises(LockStale) as caught:
        refuse_stale(now, made)
    told = [str(fault) for fault in caught.value.errors]
    assert told[0] in caught.value.detail
    assert caught.value.detail.startswith("the lock of web: ")
    for way_out in ("goldsmith recipe lock", "--keep", "--update"):
        assert way_out in (caught.value.hint or "")
    return told


BASES: list[dict[str, Any]] = [
    DEBIAN,
    {"debian": {"suite": "trixie", "components": ["main", "contrib"], "architecture": "amd64"}},
    {"image": f"{IMAGE}@{ONE}"},
    {"recipe": "debian"},
]


@pytest.mark.parametrize("base", BASES)
def test_a_lock_belongs_to_the_recipe_it_was_made_for(base: dict[str, Any]) -> None:
    refuse_stale(recipe(base), lock_of(recipe(base)))


@pytest.mark.parametrize(
    "change",
    [
        {"tests": [{"command": ["hello"]}]},
        {"policy": {"ignoreUnfixed": True}},
        {"environment": {"A": "b"}},
        {"run": [["ldconfig"]]},
        {"users": [{"name": "web", "uid": 1000}]},
        {"command": ["hello"]},
        {"hardening": {"removeDocumentation": True}},
        {"packages": ["tini", "hello"]},
        {"files": [{"path": "/etc/issue", "contentBase64": "AAE=", "mode": "0600"},
                   {"path": "/etc/motd", "contentBase64": "d2VsY29tZQo=", "owner": "1:1"}]},
        {"publish": {"repository": "golden/other"}},
    ],
)  # fmt: skip
def test_what_was_not_resolved_may_change(change: dict[str, Any]) -> None:
    assert recipe(**change) != recipe()
    refuse_stale(recipe(**change), lock_of(recipe()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"packages": ["hello", "tini", "nginx-light"]}, ["spec.packages[2]: the lock was made without 'nginx-light'"]),
        ({"packages": ["hello"]},
         ["spec.packages: the lock was made with 'tini', which the recipe no longer asks for"]),
        ({"packages": ["hello=2.10-3", "tini"]},
         ["spec.packages[0]: the lock was made without 'hello=2.10-3'",
          "spec.packages: the lock was made with 'hello', which the recipe no longer asks for"]),
        ({"files": [{"path": "/etc/motd", "content": "welcome\n"}]},
         ["spec.files: the lock was made with /etc/issue"]),
        ({"files": [{"path": "/etc/motd", "content": "other\n"}, {"path": "/etc/issue", "contentBase64": "AAE="}]},
         ["spec.files[0]: /etc/motd has sha256 7e4fa2eb8c7a…; the lock says 77f44b9024fd…"]),
        ({"files": [{"path": "/etc/issue", "contentBase64": "AAE="}, {"path": "/etc/mot", "content": "welcome\n"}]},
         ["spec.files[1]: the lock was made without /etc/mot", "spec.files: the lock was made with /etc/motd"]),
        ({"base": {"debian": {"suite": "forky"}}}, ["spec.base: the lock was made for another base"]),
        ({"base": {"debian": {"suite": "trixie", "components": ["main", "contrib"]}}},
         ["spec.base: the lock was made for another base"]),
        ({"base": {"recipe": "debian"}}, ["spec.base: the lock was made for another base"]),
    ],
)  # fmt: skip
def test_what_was_resolved_and_differs_is_told_by_its_field(change: dict[str, Any], told: list[str]) -> None:
    assert faults(recipe(**change), lock_of(recipe())) == told


def test_all_that_differs_is_told_at_once() -> None:
    now = recipe({"debian": {"suite": "forky"}}, packages=["nginx-light"], files=[])
    told = faults(now, lock_of(recipe()))
    assert [one.partition(":")[0] for one in told] == [
        "spec.base", "spec.packages[0]", "spec.packages", "spec.packages", "spec.files", "spec.files",
    ]  # fmt: skip


def locked(**changes: Any) -> LockedBase:
    return LockedBase.model_validate({"suite": "trixie", "architecture": "amd64", **changes})


class TestALockThatSomebodyWroteByHand:
    """`requested` says what the recipe says, and `base` something else: then the base is not what was asked for."""

    @pytest.mark.parametrize(
        ("base", "instead"),
        [
            (DEBIAN, locked(image=ONE, recipe="debian")),
            (DEBIAN, locked(image=f"{IMAGE}@{ONE}")),
            (DEBIAN, locked(image=f"{IMAGE}@{ONE}", packages=(package("apt"),))),
            (DEBIAN, locked()),
            (DEBIAN, locked(suite="sid", packages=(package("apt"),))),
            ({"debian": {"suite": "trixie", "architecture": "arm64"}}, locked(packages=(package("apt"),))),
            ({"recipe": "debian"}, locked(packages=(package("apt"),))),
            ({"recipe": "debian"}, locked(image=ONE, recipe="mine")),
            ({"recipe": "debian"}, locked(image=ONE)),
            ({"recipe": "debian"}, locked(image=f"{IMAGE}@{ONE}", recipe="debian")),
            ({"recipe": "debian"}, locked(image=ONE, recipe="debian", packages=(package("apt"),))),
            ({"image": f"{IMAGE}@{ONE}"}, locked(image=f"registry.example:5000/mine@{ONE}")),
            ({"image": f"{IMAGE}@{ONE}"}, locked(image=ONE)),
            ({"image": f"{IMAGE}@{ONE}"}, locked(image=f"{IMAGE}@{ONE}", recipe="debian")),
        ],
    )
    def test_is_refused(self, base: dict[str, Any], instead: LockedBase) -> None:
        told = faults(recipe(base), lock_of(recipe(base), base=instead))
        assert told == ["spec.base: the lock starts from something else than the base it was made for"]

    def test_may_name_another_image_of_the_same_place_for_that_is_how_an_index_is_resolved(self) -> None:
        base = {"image": f"{IMAGE}:13@{ONE}"}
        refuse_stale(recipe(base), lock_of(recipe(base), base=locked(image=f"{IMAGE}@{OTHER}")))


def test_a_lock_of_a_recipe_with_parameters_is_for_one_set_of_values() -> None:
    for filled_in in (True, False):
        with pytest.raises(LockStale) as told:
            refuse_stale(recipe(packages=["hello"]), lock_of(recipe()), filled_in=filled_in)
        assert ("one set of the parameters' values" in str(told.value)) is filled_in
