"""Taking builds in: the base is built first and once, circles and loose files are refused, nothing is half taken in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from builder.pipeline.submission import Asked, House, NetworkNotAllowed, RepositoryReserved, submit
from builder.recipes.catalogue import Catalogue, RecipeUnknown
from builder.recipes.document import RecipeInvalid
from builder.recipes.model import File, Recipe
from builder.recipes.reading import read_recipe
from builder.store import builds
from builder.store.database import Database
from builder.store.schema import Build, OutboxRow, Release
from builder.store.states import BUILD, State
from tests.unit.recipe_texts import recipe_text

pytest_plugins = ["tests.unit.databases"]


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    found = Database(f"sqlite:///{tmp_path / 'goldsmith.db'}")
    yield found
    found.close()


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    directory = tmp_path / "recipes"
    directory.mkdir()
    for name, base in (
        ("debian", None),
        ("python", "debian"),
        ("app", "python"),
        ("a", "b"),
        ("b", "a"),
        ("lost", "no"),
    ):
        (directory / f"{name}.yaml").write_text(recipe_text(name, base))
    return Catalogue(directory)


REGISTRY = "registry.test"


def taken_in(
    database: Database,
    catalogue: Catalogue,
    recipe: Recipe | str,
    origin: str = "catalogue",
    network_steps: bool = True,
) -> str:
    wanted = catalogue.get(recipe).recipe if isinstance(recipe, str) else recipe
    with database.write() as session:
        return submit(session, catalogue, House(REGISTRY, network_steps), Asked(wanted, origin, "ci")).id


def shown(database: Database) -> list[tuple[str, str, str]]:
    """(recipe, state, origin) of every build, oldest first."""
    with database.read() as session:
        found = session.scalars(select(Build).order_by(Build.created_at))
        return [(build.recipe_name, build.state, build.origin) for build in found]


def count(database: Database, table: type[Build] | type[OutboxRow]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def released(database: Database, catalogue: Catalogue, name: str, build_id: str) -> None:
    with database.write() as session:
        session.add(
            Release(
                build_id=build_id, digest="sha256:" + "a" * 64, recipe_name=name,
                recipe_digest=catalogue.get(name).digest, registry_host=REGISTRY, repository="r", tags=[],
                released_at=1.0,
            )
        )  # fmt: skip
        build = builds.get(session, build_id)
        build.state = State.RELEASED


def test_a_build_on_debian_itself_is_queued(database: Database, catalogue: Catalogue) -> None:
    taken_in(database, catalogue, "debian")
    assert shown(database) == [("debian", "queued", "catalogue")]
    assert count(database, OutboxRow) == 1


def test_bases_are_built_first_down_to_the_ground(database: Database, catalogue: Catalogue) -> None:
    app = taken_in(database, catalogue, "app")
    assert shown(database) == [
        ("debian", "queued", "base"),
        ("python", "waiting", "base"),
        ("app", "waiting", "catalogue"),
    ]
    assert count(database, OutboxRow) == 1
    with database.read() as session:
        python = builds.get(session, str(builds.get(session, app).waits_for))
        assert python.recipe_name == "python"
        assert python.requester == "ci"


def test_a_base_is_built_once_for_all_who_wait_for_it(database: Database, catalogue: Catalogue) -> None:
    taken_in(database, catalogue, "python")
    taken_in(database, catalogue, "python")
    taken_in(database, catalogue, "app")
    names = [name for name, _, _ in shown(database)]
    assert names.count("debian") == 1
    # The third waits for one of the two that are on their way already.
    assert names.count("python") == 2


def test_a_base_that_runs_already_is_waited_for(database: Database, catalogue: Catalogue) -> None:
    base = taken_in(database, catalogue, "debian")
    with database.write() as session:
        assert builds.claim(session, base, BUILD, "w", 60)
    child = taken_in(database, catalogue, "python")
    with database.read() as session:
        assert builds.get(session, child).waits_for == base


def test_a_base_that_is_about_to_be_cancelled_is_not_waited_for(database: Database, catalogue: Catalogue) -> None:
    base = taken_in(database, catalogue, "debian")
    with database.write() as session:
        assert builds.claim(session, base, BUILD, "w", 60)
        builds.request_cancel(session, base)
    child = taken_in(database, catalogue, "python")
    with database.read() as session:
        assert builds.get(session, child).waits_for not in (None, base)


def test_a_base_that_is_released_as_its_recipe_stands_is_used(database: Database, catalogue: Catalogue) -> None:
    released(database, catalogue, "debian", taken_in(database, catalogue, "debian"))
    taken_in(database, catalogue, "python")
    assert shown(database)[1:] == [("python", "queued", "catalogue")]


def test_a_base_whose_recipe_has_changed_since_is_built_anew(
    database: Database, catalogue: Catalogue, tmp_path: Path
) -> None:
    released(database, catalogue, "debian", taken_in(database, catalogue, "debian"))
    with (tmp_path / "recipes/debian.yaml").open("a") as file:
        file.write("  packages: [tzdata]\n")
    taken_in(database, catalogue, "python")
    assert shown(database)[1:] == [("debian", "queued", "base"), ("python", "waiting", "catalogue")]


@pytest.mark.parametrize(
    ("recipe", "circle"),
    [
        ("a", "a -> b -> a"),
        (recipe_text("x", "x"), "x -> x"),
        (recipe_text("b", "a"), "b -> a -> b"),
        (recipe_text("c", "b"), "c -> b -> a -> b"),
    ],
)
def test_bases_in_a_circle_are_refused_and_nothing_is_left(
    database: Database, catalogue: Catalogue, recipe: str, circle: str
) -> None:
    wanted = recipe if len(recipe) == 1 else read_recipe(recipe)
    with pytest.raises(RecipeInvalid, match="form a circle") as caught:
        taken_in(database, catalogue, wanted)
    assert circle in caught.value.detail
    assert caught.value.errors[0].field == "spec.base.recipe"
    assert (count(database, Build), count(database, OutboxRow)) == (0, 0)


def test_a_base_that_nobody_knows_is_refused_and_nothing_is_left(database: Database, catalogue: Catalogue) -> None:
    with pytest.raises(RecipeUnknown, match="no recipe is named 'no'"):
        taken_in(database, catalogue, "lost")
    assert count(database, Build) == 0


def test_a_recipe_with_loose_files_is_refused(database: Database, catalogue: Catalogue) -> None:
    loose = read_recipe(recipe_text("x", None) + "  files: [{path: /a, source: b}]\n")
    with pytest.raises(RecipeInvalid, match="has no files beside it"):
        taken_in(database, catalogue, loose)
    assert count(database, Build) == 0


def test_the_recipe_is_kept_whole(database: Database, catalogue: Catalogue) -> None:
    build_id = taken_in(database, catalogue, "python")
    with database.read() as session:
        kept = builds.get(session, build_id)
        assert Recipe.model_validate_json(kept.recipe) == catalogue.get("python").recipe
        assert kept.recipe_digest == catalogue.get("python").digest


def test_an_image_of_the_same_name_by_somebody_else_is_nobodys_base(database: Database, catalogue: Catalogue) -> None:
    """A release counts by its recipe's digest: whoever names a recipe `debian` does not make the base of `python`."""
    own = catalogue.get("debian").recipe
    spec = own.spec.model_copy(
        update={"publish": own.spec.publish.model_copy(update={"repository": "mine"}), "packages": ["tini"]}
    )
    taken_in(database, catalogue, own.model_copy(update={"spec": spec}), "request")
    with database.write() as session:
        build = session.scalars(select(Build)).one()
        session.add(
            Release(
                build_id=build.id, digest="sha256:" + "e" * 64, recipe_name="debian", recipe_digest=build.recipe_digest,
                registry_host=REGISTRY, repository="mine", tags=[], released_at=9.0,
            )
        )  # fmt: skip
        build.state = State.RELEASED
    python = taken_in(database, catalogue, "python")
    with database.read() as session:
        waiting = builds.get(session, python)
        assert waiting.base_digest == catalogue.get("debian").digest
        assert waiting.state == State.WAITING


def test_where_the_service_publishes_its_recipes_nobody_else_does(database: Database, catalogue: Catalogue) -> None:
    own = catalogue.get("debian").recipe
    edited = own.model_copy(update={"spec": own.spec.model_copy(update={"packages": ["tini"]})})
    with pytest.raises(RepositoryReserved, match="choose another repository"):
        taken_in(database, catalogue, edited, "request")
    taken_in(database, catalogue, own, "request")


def test_a_file_where_an_image_keeps_nothing_is_refused(database: Database, catalogue: Catalogue) -> None:
    own = catalogue.get("debian").recipe
    file = File(path="/tmp/x", content="gone")
    with pytest.raises(RecipeInvalid) as refused:
        taken_in(database, catalogue, own.model_copy(update={"spec": own.spec.model_copy(update={"files": [file]})}))
    assert "spec.files[0].path: /tmp/x is never part of an image" in refused.value.detail


NETWORKED = "  run: [[ldconfig], {shell: fetch, network: true}, {command: [a]}, {command: [b], network: true}]\n"


def test_steps_with_a_network_are_taken_in_where_the_operator_allows_them(
    database: Database, catalogue: Catalogue
) -> None:
    taken_in(database, catalogue, read_recipe(recipe_text("x", None) + NETWORKED))
    assert shown(database) == [("x", "queued", "catalogue")]


def test_steps_with_a_network_are_refused_by_name_where_the_operator_forbids_them(
    database: Database, catalogue: Catalogue
) -> None:
    with pytest.raises(NetworkNotAllowed, match=r"spec\.run\[1\]\.network") as caught:
        taken_in(database, catalogue, read_recipe(recipe_text("x", None) + NETWORKED), network_steps=False)
    assert [fault.field for fault in caught.value.errors] == ["spec.run[1].network", "spec.run[3].network"]
    assert "GOLDSMITH_NETWORK_STEPS" in (caught.value.hint or "")
    assert count(database, Build) == 0
    taken_in(database, catalogue, "debian", network_steps=False)


def test_a_base_whose_steps_have_a_network_is_refused_with_all_that_stand_on_it(
    database: Database, catalogue: Catalogue, tmp_path: Path
) -> None:
    with (tmp_path / "recipes/debian.yaml").open("a") as file:
        file.write(NETWORKED)
    with pytest.raises(NetworkNotAllowed, match="recipe debian"):
        taken_in(database, catalogue, "app", network_steps=False)
    assert (count(database, Build), count(database, OutboxRow)) == (0, 0)


def test_a_recipe_that_is_larger_than_the_service_keeps_is_refused(database: Database, catalogue: Catalogue) -> None:
    recipe = read_recipe(recipe_text("mine", None))
    files = [File(path=f"/f{index}", content="\1" * 128 * 1024) for index in range(20)]
    whole = recipe.model_copy(update={"spec": recipe.spec.model_copy(update={"files": files})})
    with pytest.raises(RecipeInvalid, match="8388608 are allowed"):
        taken_in(database, catalogue, whole, origin="request")
    assert count(database, Build) == 0
