"""Recipes on disk: found by name, whole with their files, and never a way to read what is not beside them."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path

import pytest

from builder.recipes.catalogue import MAX_FILE_BYTES, Catalogue, RecipeUnknown, read_recipe_file, refuse_sources
from builder.recipes.document import RecipeInvalid
from builder.recipes.reading import read_recipe

SHIPPED = Path(__file__).parents[2] / "recipes"

RECIPE = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: NAME}
spec:
  base: {recipe: debian}
  publish: {repository: golden/x}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "secret").write_text("not yours")
    return tmp_path / "recipes"


def write(directory: Path, name: str, source: str | None = None) -> Path:
    path = directory / f"{name}.yaml"
    more = f"  files:\n  - {{path: /a, source: {source}, mode: '0600', owner: '1:2'}}\n" if source else ""
    path.write_text(RECIPE.replace("NAME", name) + more)
    return path


def refused(directory: Path, source: str) -> RecipeInvalid:
    path = write(directory, "x", source)
    with pytest.raises(RecipeInvalid) as caught:
        read_recipe_file(path)
    assert caught.value.errors[0].field == "spec.files[0].source"
    assert "not yours" not in str(caught.value)
    return caught.value


class TestFiles:
    def test_are_embedded_with_owner_and_mode(self, directory: Path) -> None:
        (directory / "d").mkdir()
        (directory / "d/a.txt").write_text("é\n")
        file = read_recipe_file(write(directory, "x", "d/a.txt")).spec.files[0]
        assert (file.content, file.source, file.mode, file.owner) == ("é\n", None, "0600", "1:2")

    def test_that_are_no_text_are_embedded_in_base64(self, directory: Path) -> None:
        (directory / "a").write_bytes(b"\xff\x00")
        file = read_recipe_file(write(directory, "x", "a")).spec.files[0]
        assert base64.b64decode(file.content_base64 or "") == b"\xff\x00"

    def test_of_the_largest_size_are_embedded(self, directory: Path) -> None:
        (directory / "a").write_bytes(b"\xff" * MAX_FILE_BYTES)
        file = read_recipe_file(write(directory, "x", "a")).spec.files[0]
        assert len(base64.b64decode(file.content_base64 or "")) == MAX_FILE_BYTES

    def test_that_are_larger_are_refused(self, directory: Path) -> None:
        (directory / "a").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
        assert f"larger than {MAX_FILE_BYTES} bytes" in str(refused(directory, "a"))

    def test_that_are_missing_are_told(self, directory: Path) -> None:
        assert "cannot read 'nowhere': No such file" in str(refused(directory, "nowhere"))

    def test_above_the_recipe_are_refused_by_the_model(self, directory: Path) -> None:
        with pytest.raises(RecipeInvalid, match=r"'\.\.' is not allowed"):
            read_recipe_file(write(directory, "x", "../secret"))

    def test_behind_a_link_out_of_the_directory_are_refused(self, directory: Path) -> None:
        (directory / "a").symlink_to("../secret")
        assert "leads out of the recipe's directory" in str(refused(directory, "a"))

    def test_behind_a_linked_directory_are_refused(self, directory: Path) -> None:
        (directory / "d").symlink_to("..", target_is_directory=True)
        assert "leads out of the recipe's directory" in str(refused(directory, "d/secret"))

    def test_behind_a_link_within_the_directory_are_embedded(self, directory: Path) -> None:
        (directory / "b").write_text("b")
        (directory / "a").symlink_to("b")
        assert read_recipe_file(write(directory, "x", "a")).spec.files[0].content == "b"

    def test_a_link_to_itself_is_refused(self, directory: Path) -> None:
        (directory / "a").symlink_to("a")
        refused(directory, "a")

    @pytest.mark.timeout(10)
    def test_a_pipe_is_refused_and_waits_for_nobody(self, directory: Path) -> None:
        os.mkfifo(directory / "a")
        assert "is not a plain file" in str(refused(directory, "a"))

    def test_a_socket_a_device_or_a_directory_is_refused(self, directory: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(directory / "s"))
            assert "is not a plain file" in str(refused(directory, "s"))
        (directory / "d").mkdir()
        assert "is not a plain file" in str(refused(directory, "d"))

    def test_a_recipe_of_a_request_has_none_beside_it(self) -> None:
        recipe = read_recipe(RECIPE.replace("NAME", "x") + "  files: [{path: /a, source: b}]\n")
        with pytest.raises(RecipeInvalid, match="has no files beside it") as caught:
            refuse_sources(recipe)
        assert "contentBase64" in (caught.value.errors[0].hint or "")


class TestCatalogue:
    def test_lists_the_recipes_of_its_directory(self, directory: Path) -> None:
        write(directory, "b")
        write(directory, "a")
        (directory / "notes.txt").write_text("")
        assert Catalogue(directory).names() == ["a", "b"]

    def test_of_no_directory_is_empty(self, tmp_path: Path) -> None:
        assert Catalogue(tmp_path / "nowhere").names() == []

    def test_suggests_the_nearest_name(self, directory: Path) -> None:
        write(directory, "python")
        with pytest.raises(RecipeUnknown) as caught:
            Catalogue(directory).get("pyton")
        assert caught.value.hint == "did you mean 'python'?"

    def test_tells_what_there_is_when_no_name_is_near(self, directory: Path) -> None:
        write(directory, "python")
        with pytest.raises(RecipeUnknown) as caught:
            Catalogue(directory).get("x" * 100_000)
        assert caught.value.hint == "there are: python"
        assert len(caught.value.detail) < 200

    @pytest.mark.parametrize("name", ["../secret", "a/../a", "", ".", "a\x00", "a.yaml", "/etc/passwd"])
    def test_knows_names_and_no_paths(self, directory: Path, name: str) -> None:
        write(directory, "a")
        with pytest.raises(RecipeUnknown):
            Catalogue(directory).get(name)

    def test_refuses_a_recipe_whose_name_is_not_its_files(self, directory: Path) -> None:
        write(directory, "a").rename(directory / "b.yaml")
        with pytest.raises(RecipeInvalid, match="must be 'b', as the file is named"):
            Catalogue(directory).get("b")

    def test_takes_an_edit_with_the_next_look(self, directory: Path) -> None:
        path = write(directory, "a")
        before = Catalogue(directory).get("a").digest
        path.write_text(path.read_text() + "  user: '1'\n")
        assert Catalogue(directory).get("a").digest != before

    def test_a_changed_file_beside_a_recipe_is_another_recipe(self, directory: Path) -> None:
        write(directory, "a", "f")
        (directory / "f").write_text("1")
        before = Catalogue(directory).get("a").digest
        (directory / "f").write_text("2")
        assert Catalogue(directory).get("a").digest != before

    def test_a_file_that_cannot_be_read_is_told(self, directory: Path) -> None:
        (directory / "a.yaml").mkdir()
        with pytest.raises(RecipeUnknown, match="Is a directory"):
            Catalogue(directory).get("a")


class TestShipped:
    @pytest.mark.parametrize("name", Catalogue(SHIPPED).names())
    def test_is_valid_and_whole(self, name: str) -> None:
        listed = Catalogue(SHIPPED).get(name)
        assert listed.name == name
        refuse_sources(listed.recipe)
        assert listed.recipe.metadata.description

    def test_bases_are_shipped_too(self) -> None:
        catalogue = Catalogue(SHIPPED)
        recipes = [catalogue.get(name).recipe for name in catalogue.names()]
        assert len(recipes) >= 3
        assert {recipe.spec.base.recipe for recipe in recipes if recipe.spec.base.recipe} <= set(catalogue.names())
