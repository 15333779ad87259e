"""`goldsmith build` with a lock, without one where there must be one, and of what was released before."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.planning.lock import Lock
from builder.planning.lockfile import format_lock
from builder.store import builds
from builder.store.schema import Build
from tests.unit.cli_commands import newest, playing
from tests.unit.cli_recipe import HELLO, NEWER, Mine, new_recipe
from tests.unit.cli_server import IMAGE, Api, running_api

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api") / "state") as running:
        yield running


@pytest.fixture
def mine(served: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mine:
    monkeypatch.chdir(tmp_path)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return new_recipe(served, tmp_path)


def asked(api: Api, recipe: str = "mine") -> Build:
    """The newest build, as it came in."""
    with api.database.read() as session:
        return builds.get(session, newest(api, recipe) or "")


class TestLocks:
    @pytest.mark.parametrize("option", [[], ["--locked"]])
    def test_the_lock_beside_a_file_is_sent_and_used_exactly(
        self, mine: Mine, capsys: Output, option: list[str]
    ) -> None:
        mine.locked(HELLO)
        assert main(["build", mine.file, "--no-wait", "--json", *option]) == 0
        assert json.loads(capsys.readouterr().out)["locked"] is True
        assert Lock.model_validate_json(asked(mine.api).lock or "") == mine.lock(HELLO)

    def test_without_one_the_archive_decides(self, mine: Mine, capsys: Output) -> None:
        assert main(["build", mine.file, "--no-wait", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["locked"] is False
        assert asked(mine.api).lock is None

    def test_with_update_the_lock_is_left_aside_even_one_that_cannot_be_read(self, mine: Mine) -> None:
        mine.beside.write_text("<<<<<<< conflict\n")
        assert main(["build", mine.file, "--no-wait", "--update"]) == 0
        assert asked(mine.api).lock is None

    @pytest.mark.parametrize("recipe", ["mine.yaml", "web"])
    def test_locked_without_a_lock_is_refused_and_nothing_is_built(
        self, mine: Mine, capsys: Output, recipe: str
    ) -> None:
        name = recipe.removesuffix(".yaml")
        known = newest(mine.api, name)
        assert main(["build", recipe, "--locked"]) == 1
        told = capsys.readouterr().err
        assert f"{name} has no lock, and resolving was refused (`goldsmith recipe lock` makes one;" in told
        assert newest(mine.api, name) == known

    def test_a_lock_of_the_recipe_as_it_was_is_refused_field_by_field_with_the_ways_out(
        self, mine: Mine, capsys: Output
    ) -> None:
        mine.locked(HELLO)
        mine.change("[hello]", "[hello, tree]")
        (mine.directory / "motd").write_text("farewell\n")
        known = newest(mine.api, "mine")
        assert main(["build", mine.file]) == 1
        first, package, file, last = capsys.readouterr().err.splitlines()
        assert first == "goldsmith: The lock does not belong to the recipe as it is now: the lock of mine"
        assert package == "  spec.packages[1]: the lock was made without 'tree'"
        assert file.startswith("  spec.files[0]: /etc/motd has sha256 ")
        for way in ("`goldsmith recipe lock` renews it", "--keep` renews files alone", "`goldsmith build --update`"):
            assert way in last
        assert newest(mine.api, "mine") == known

    def test_the_lock_of_a_name_is_the_services_own(self, mine: Mine) -> None:
        beside = mine.api.directory / "recipes" / "mine.lock.json"
        for file in ("mine.yaml", "motd"):
            (beside.parent / file).write_bytes((mine.directory / file).read_bytes())
        beside.write_text(format_lock(mine.lock(NEWER)))
        mine.locked(HELLO)
        try:
            assert main(["build", "mine", "--no-wait"]) == 0
        finally:
            for path in (beside, beside.with_name("mine.yaml"), beside.with_name("motd")):
                path.unlink()
        assert Lock.model_validate_json(asked(mine.api).lock or "").packages == (NEWER,)


class TestUnchanged:
    def test_what_was_released_before_is_told_with_its_build_and_the_way_to_build_anew(
        self, mine: Mine, capsys: Output
    ) -> None:
        with playing(mine.api, "mine", lambda worker: worker.release(IMAGE)):
            assert main(["build", mine.file]) == 0
        before = newest(mine.api, "mine") or ""
        capsys.readouterr()
        with playing(mine.api, "mine", lambda worker: worker.find_unchanged(before)):
            assert main(["build", mine.file]) == 0
        out = capsys.readouterr().out
        assert f"mine: the same inputs were released before, by build {before}; --force builds anew" in out
        assert f"released   127.0.0.1:5000/golden/mine@{IMAGE}" in out
        assert main(["show", newest(mine.api, "mine") or ""]) == 0
        assert f"unchanged since  {before}" in capsys.readouterr().out

    def test_for_machines_the_earlier_build_is_named(self, mine: Mine, capsys: Output) -> None:
        with playing(mine.api, "mine", lambda worker: worker.release(IMAGE)):
            assert main(["build", mine.file, "--json"]) == 0
        before = json.loads(capsys.readouterr().out)
        assert before["unchangedSince"] is None
        with playing(mine.api, "mine", lambda worker: worker.find_unchanged(before["id"])):
            assert main(["build", mine.file, "--json"]) == 0
        build = json.loads(capsys.readouterr().out)
        assert (build["state"], build["unchangedSince"]) == ("released", before["id"])
        assert build["result"] == before["result"]

    def test_a_release_that_is_new_says_nothing_of_others(self, mine: Mine, capsys: Output) -> None:
        with playing(mine.api, "mine", lambda worker: worker.release(IMAGE)):
            assert main(["build", mine.file]) == 0
        assert "released before" not in capsys.readouterr().out

    def test_force_is_passed_on(self, mine: Mine) -> None:
        for options, expected in (([], False), (["--force"], True)):
            assert main(["build", mine.file, "--no-wait", *options]) == 0
            assert bool(asked(mine.api).options.get("force")) is expected


class TestMistakes:
    def test_whoever_names_a_file_of_this_directory_without_its_ending_is_told(
        self, mine: Mine, capsys: Output
    ) -> None:
        for line in (["build", "mine"], ["recipe", "lock", "mine"], ["recipe", "lock", "mine", "--check"]):
            assert main(line) == 1
            told = capsys.readouterr().err
            assert "no recipe is named 'mine' (the file in this directory is mine.yaml)" in told

    def test_a_name_that_is_nowhere_is_told_with_those_there_are(self, mine: Mine, capsys: Output) -> None:
        assert main(["build", "wbe"]) == 1
        assert "no recipe is named 'wbe' (did you mean 'web'?)" in capsys.readouterr().err

    @pytest.mark.parametrize("place", [".", "..", "/", "./"])
    @pytest.mark.parametrize("command", ["build", "recipe lock"])
    def test_a_directory_is_no_recipe(self, mine: Mine, capsys: Output, command: str, place: str) -> None:
        assert main([*command.split(), place]) == 1
        assert "Is a directory (check the path)" in capsys.readouterr().err
