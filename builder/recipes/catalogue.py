"""The recipes that the service offers by name: the YAML files of one directory, each with the files beside it."""

from __future__ import annotations

import base64
import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from builder.errors import Fault, Rejected
from builder.recipes.document import RecipeInvalid
from builder.recipes.model import File, Recipe
from builder.recipes.reading import read_recipe, recipe_digest

MAX_FILE_BYTES = 128 * 1024


class RecipeUnknown(Rejected):
    slug = "recipe-unknown"
    title = "There is no recipe of that name"
    status = 404


@dataclass(frozen=True)
class Listed:
    """A recipe of the catalogue, its files embedded, the digest of the whole, and the file it was read from."""

    recipe: Recipe
    digest: str
    path: Path

    @property
    def name(self) -> str:
        return self.recipe.metadata.name


class Catalogue:
    """Reads the directory anew at each call: a recipe that is edited takes effect with the next build."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._directory.glob("*.yaml"))

    def get(self, name: str) -> Listed:
        """Raises RecipeUnknown, or RecipeInvalid if the file of that name is at fault."""
        names = self.names()
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names) or 'none'}"
            raise RecipeUnknown(f"no recipe is named {name[:63]!r}", hint=hint)
        path = self._directory / f"{name}.yaml"
        recipe = read_recipe_file(path)
        if recipe.metadata.name != name:
            fault = Fault(
                message=f"must be {name!r}, as the file is named", field="metadata.name", hint="rename one of the two"
            )
            raise RecipeInvalid(f"{path.name}: {fault}", errors=[fault])
        return Listed(recipe, recipe_digest(recipe), path)


def read_recipe_file(path: Path) -> Recipe:
    """Read a recipe from disk and embed the files it names, so that it is whole and can be sent anywhere.

    Raises RecipeUnknown if there is no such file and RecipeInvalid for every fault in it.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RecipeUnknown(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    return embed_sources(_parsed(text, path.name), path.parent, source=path.name)


@lru_cache(maxsize=64)
def _parsed(text: bytes, source: str) -> Recipe:
    """The same text means the same recipe; to parse it takes longer than all else that a request for a build needs."""
    return read_recipe(text, source=source)


def embed_sources(recipe: Recipe, directory: Path, *, source: str) -> Recipe:
    files = [_embedded(file, directory, index, source) for index, file in enumerate(recipe.spec.files)]
    return recipe.model_copy(update={"spec": recipe.spec.model_copy(update={"files": files})})


def refuse_sources(recipe: Recipe) -> None:
    """A recipe that came in a request has no directory: its files must be embedded."""
    for index, file in enumerate(recipe.spec.files):
        if file.source is not None:
            fault = Fault(
                message="a recipe in a request has no files beside it",
                field=f"spec.files[{index}].source",
                hint="use 'content' or 'contentBase64'; `goldsmith build FILE` embeds them for you",
            )
            raise RecipeInvalid(f"recipe: {fault}", errors=[fault])


def _embedded(file: File, directory: Path, index: int, source: str) -> File:
    if file.source is None:
        return file
    field = f"spec.files[{index}].source"
    root = directory.resolve()
    try:
        target = (root / file.source).resolve()
    except RuntimeError as error:  # pathlib's word for links in a circle, before Python 3.13
        raise _refused(source, field, f"{file.source!r} is a link to itself", "name a file") from error
    if not target.is_relative_to(root):
        raise _refused(
            source, field, f"{file.source!r} leads out of the recipe's directory", "keep it beside the recipe"
        )
    try:
        # Asked before opening: to open a pipe would wait for a writer.
        if target.exists() and not target.is_file():
            raise _refused(source, field, f"{file.source!r} is not a plain file", "name a file")
        with target.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refused(source, field, f"cannot read {file.source!r}: {error.strerror}", "check the path") from error
    if len(data) > MAX_FILE_BYTES:
        raise _refused(source, field, f"{file.source!r} is larger than {MAX_FILE_BYTES} bytes", "put it into a package")
    try:
        content = {"content": data.decode("utf-8")}
    except UnicodeDecodeError:
        content = {"content_base64": base64.b64encode(data).decode("ascii")}
    return File(path=file.path, owner=file.owner, mode=file.mode, **content)


def _refused(source: str, field: str, message: str, hint: str | None) -> RecipeInvalid:
    fault = Fault(message=message, field=field, hint=hint)
    return RecipeInvalid(f"{source}: {fault}", errors=[fault])
