"""A lock locks: a build with one uses exactly it, whatever the archive has, and what is the same is not built again."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from builder.planning.agreement import refuse_stale
from builder.planning.lockfile import read_lock_beside
from builder.recipes.catalogue import Catalogue
from scripts.stack.services import ROOT
from tests.end_to_end.world import Goldsmith, Released

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def recipe(goldsmith: Goldsmith) -> dict[str, Any]:
    return goldsmith.recipe("locked", packages=["tini"])


@pytest.fixture(scope="module")
def lock(goldsmith: Goldsmith, web: Released, recipe: dict[str, Any]) -> dict[str, Any]:
    return goldsmith.lock(recipe)


@pytest.fixture(scope="module")
def locked(goldsmith: Goldsmith, recipe: dict[str, Any], lock: dict[str, Any]) -> Released:
    return goldsmith.release(recipe, lock=lock, lockUse="require")


def test_a_lock_names_the_base_each_package_each_archive_and_the_builder(lock: dict[str, Any]) -> None:
    assert lock["base"]["image"].startswith("sha256:")
    assert [package["name"] for package in lock["packages"]] == ["tini"]
    assert {"version", "architecture", "size", "sha256", "path"} <= lock["packages"][0].keys()
    assert {"suite", "releaseSha256", "date"} <= lock["archives"][0].keys()
    assert lock["builder"].startswith("goldsmith ")


def test_a_build_with_a_lock_records_exactly_that_lock(
    goldsmith: Goldsmith, locked: Released, lock: dict[str, Any]
) -> None:
    assert locked.build["locked"] is True
    assert goldsmith.api.get(f"/v1/builds/{locked.build['id']}/lock").json() == lock
    provenance = goldsmith.run("provenance", locked.digest, "--statement").stdout
    told = json.loads(provenance)["predicate"]["buildDefinition"]
    given = next(one["digest"]["sha256"] for one in told["resolvedDependencies"] if one.get("name") == "lock")
    assert told["externalParameters"]["lock"] == f"sha256:{given}"
    assert "resolve" not in {step["name"] for step in locked.build["steps"]}


def test_a_dry_run_tells_what_would_be_done_and_does_none_of_it(
    goldsmith: Goldsmith, locked: Released, recipe: dict[str, Any], lock: dict[str, Any]
) -> None:
    before = goldsmith.leftovers()
    plan = goldsmith.finished(goldsmith.submit(recipe, lock=lock, dryRun=True, force=False))
    assert (plan["state"], plan["purpose"], plan["result"]["digest"]) == ("planned", "plan", None)
    told = plan["plan"]
    assert told["unchanged"] == {"buildId": locked.build["id"], "digest": locked.digest}
    assert (told["lockGiven"], told["base"], told["fetchBytes"]) == (True, lock["base"]["image"], 0)
    assert [(one["name"], one["source"]) for one in told["packages"]] == [("tini", "cache")]
    other = goldsmith.recipe("planned", packages=["tini", "less"])
    fresh = goldsmith.finished(goldsmith.submit(other, dryRun=True))["plan"]
    sources = {one["name"]: one["source"] for one in fresh["packages"]}
    assert (sources["tini"], sources["less"], fresh["unchanged"], fresh["lockGiven"]) == (
        "cache",
        "archive",
        None,
        False,
    )
    assert fresh["fetchBytes"] == sum(one["size"] for one in fresh["packages"] if one["source"] == "archive") > 0
    assert goldsmith.leftovers() == before
    assert "nothing would be built" in goldsmith.run("recipe", "plan", "web").stdout


def test_an_old_lock_is_built_from_what_an_earlier_image_kept(
    goldsmith: Goldsmith, locked: Released, recipe: dict[str, Any], lock: dict[str, Any], tmp_path: Path
) -> None:
    """Nothing cached and no archive: the packages come from the registry."""
    with goldsmith.worker(
        "build", STATE_DIRECTORY=str(tmp_path), DEBIAN_MIRROR=NOWHERE, DEBIAN_SECURITY_MIRROR=NOWHERE
    ):
        again = goldsmith.release(recipe, lock=lock)
    assert again.digest == locked.digest
    materials = next(step for step in again.build["steps"] if step["name"] == "materials")
    assert materials["summary"] == "1 package from the registry"


def test_a_locked_package_that_nobody_has_any_more_ends_the_build_and_is_named(
    goldsmith: Goldsmith, lock: dict[str, Any]
) -> None:
    """A lock of the service's own, from a time when the archive had something else."""
    [tini] = lock["packages"]
    old = {**lock, "packages": [{**tini, "version": "0.1-1", "sha256": "0" * 64, "path": "pool/main/t/tini/old.deb"}]}
    recipes = Path(goldsmith.stack.overrides["RECIPES_DIRECTORY"])
    (recipes / "aged.yaml").write_text(json.dumps(goldsmith.recipe("aged", packages=["tini"])))
    (recipes / "aged.lock.json").write_text(json.dumps(old))
    try:
        build = goldsmith.finished(goldsmith.submit("aged"))
    finally:
        for file in ("aged.yaml", "aged.lock.json"):
            (recipes / file).unlink()
    assert build["state"] == "failed"
    assert build["problem"]["type"] == "/problems/material-gone"
    assert "tini 0.1-1" in build["problem"]["detail"]
    assert "the registry, the Debian archive" in build["problem"]["detail"]
    goldsmith.wait_until_clean()


@pytest.mark.parametrize("lie", [{"version": "99.0-1"}, {"name": "libc6"}, {"sha256": "0" * 64}])
def test_a_lock_that_calls_a_package_what_no_signed_index_calls_it_is_not_believed(
    goldsmith: Goldsmith, recipe: dict[str, Any], lock: dict[str, Any], lie: dict[str, str]
) -> None:
    [tini] = lock["packages"]
    build = goldsmith.finished(goldsmith.submit(recipe, lock={**lock, "packages": [{**tini, **lie}]}))
    assert build["state"] == "failed"
    assert build["problem"]["type"] == "/problems/lock-not-believed"
    assert f"{lie.get('name', 'tini')} {lie.get('version', tini['version'])}" in build["problem"]["detail"]
    goldsmith.wait_until_clean()


def test_bytes_that_a_request_brought_are_no_package_of_a_base(goldsmith: Goldsmith, web: Released) -> None:
    """A base's packages run their scripts on the worker: whoever may ask for builds must not bring them."""
    brought = b"!<arch>\nnot from Debian"
    recipe = goldsmith.recipe("smuggled", base={"debian": {"suite": "trixie"}}, files=[])
    recipe["spec"]["files"] = [{"path": "/srv/x.deb", "contentBase64": base64.b64encode(brought).decode()}]
    lock = goldsmith.lock(recipe)
    package = {**lock["base"]["packages"][0], "name": "brought", "sha256": hashlib.sha256(brought).hexdigest()}
    lock["base"]["packages"] = [*lock["base"]["packages"], {**package, "size": len(brought)}]
    build = goldsmith.finished(goldsmith.submit(recipe, lock=lock))
    assert build["problem"]["type"] == "/problems/lock-not-believed"
    assert "brought" in build["problem"]["detail"]


def test_a_lock_that_another_installation_made_is_believed_as_far_as_todays_indexes_say_the_same(
    goldsmith: Goldsmith, recipe: dict[str, Any], lock: dict[str, Any], locked: Released
) -> None:
    with sqlite3.connect(goldsmith.stack.state / "state/goldsmith.db") as database:
        database.execute("DELETE FROM known_packages")
    assert goldsmith.release(recipe, lock=lock).digest == locked.digest


def test_what_the_service_releases_under_its_own_names_has_its_own_locks(goldsmith: Goldsmith, web: Released) -> None:
    lock = goldsmith.api.get(f"/v1/builds/{web.build['id']}/lock").json()
    by_name = goldsmith.api.post("/v1/builds", json={"recipe": "web", "lock": lock})
    assert by_name.status_code == 422
    whole = Catalogue(ROOT / "recipes").get("web").recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    brought = goldsmith.api.post("/v1/builds", json={"recipe": whole, "lock": lock, "force": True})
    assert (brought.status_code, brought.json()["type"]) == (403, "/problems/repository-reserved")


def test_a_lock_for_another_architecture_is_refused(
    goldsmith: Goldsmith, recipe: dict[str, Any], lock: dict[str, Any]
) -> None:
    other = {**lock, "base": {**lock["base"], "architecture": "s390x"}}
    build = goldsmith.finished(goldsmith.submit(recipe, lock=other))
    assert build["problem"]["type"] == "/problems/architecture-mismatch"


def test_a_changed_recipe_is_not_built_with_its_old_lock(
    goldsmith: Goldsmith, recipe: dict[str, Any], lock: dict[str, Any]
) -> None:
    changed = {**recipe, "spec": {**recipe["spec"], "packages": ["tini", "dumb-init"]}}
    answer = goldsmith.api.post("/v1/builds", json={"recipe": changed, "lock": lock})
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/lock-stale"
    assert answer.json()["errors"][0]["field"] == "spec.packages[1]"


def test_without_a_lock_nothing_is_resolved_if_that_is_refused(goldsmith: Goldsmith) -> None:
    done = goldsmith.run("build", "web", "--locked", check=False)
    assert done.returncode == 1
    assert "goldsmith recipe lock" in done.stderr


def test_the_command_writes_a_lock_that_ci_can_check(goldsmith: Goldsmith, web: Released, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(goldsmith.recipe("small", packages=["tini"])))
    goldsmith.run("recipe", "lock", str(file))
    assert "nothing would change" in goldsmith.run("recipe", "lock", str(file), "--check").stdout
    beside = tmp_path / "small.lock.json"
    lock = json.loads(beside.read_text())
    lock["packages"][0] |= {"version": "0.1-1", "sha256": "0" * 64}
    beside.write_text(json.dumps(lock))
    done = goldsmith.run("recipe", "lock", str(file), "--check", check=False)
    assert done.returncode == 2
    assert "~ tini 0.1-1 -> " in done.stdout
    assert json.loads(beside.read_text()) == lock, "--check writes nothing"


class TestUnchanged:
    def ask(self, goldsmith: Goldsmith, recipe: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        answer = goldsmith.api.post("/v1/builds", json={"recipe": recipe, **options})
        found: dict[str, Any] = answer.json()
        return answer.status_code, found

    def test_the_same_lock_is_answered_at_once_by_the_release_there_is(
        self, goldsmith: Goldsmith, locked: Released, recipe: dict[str, Any], lock: dict[str, Any]
    ) -> None:
        status, build = self.ask(goldsmith, recipe, lock=lock)
        assert status == 200
        assert build["state"] == "released"
        assert build["result"]["digest"] == locked.digest

    def test_without_a_lock_for_as_long_as_the_indexes_count_as_current(
        self, goldsmith: Goldsmith, web: Released
    ) -> None:
        status, build = self.ask(goldsmith, "web")
        assert (status, build["result"]["digest"]) == (200, web.digest)

    def test_after_that_it_is_resolved_anew_and_answered_if_nothing_is_newer(
        self, goldsmith: Goldsmith, web: Released
    ) -> None:
        age(goldsmith, "web", 3600)
        status, build = self.ask(goldsmith, "web")
        assert status == 202
        ended = goldsmith.finished(build["id"])
        assert ended["state"] == "released"
        assert ended["unchangedSince"] is not None
        assert ended["result"]["reference"] == web.reference
        assert {step["name"] for step in ended["steps"]} == {"resolve", "unchanged"}

    def test_a_release_that_the_registry_has_lost_answers_nothing(self, goldsmith: Goldsmith, web: Released) -> None:
        recipe = goldsmith.recipe("lost", labels={"a": "b"})
        first = goldsmith.release(recipe)
        goldsmith.registry.manifests.delete(goldsmith.repository(first).at(first.digest))
        status, build = self.ask(goldsmith, recipe)
        assert status == 202
        assert goldsmith.finished(build["id"])["unchangedSince"] is None


def age(goldsmith: Goldsmith, recipe: str, seconds: float) -> None:
    """Make the builds of a recipe older."""
    with sqlite3.connect(goldsmith.stack.state / "state/goldsmith.db") as database:
        database.execute("UPDATE builds SET created_at = created_at - ? WHERE recipe_name = ?", (seconds, recipe))


@pytest.mark.parametrize("name", ["debian", "python", "web"])
def test_the_locks_that_ship_belong_to_the_recipes_that_ship(name: str) -> None:
    listed = Catalogue(ROOT / "recipes").get(name)
    lock = read_lock_beside(listed.path)
    assert lock is not None
    refuse_stale(listed.recipe, lock)
