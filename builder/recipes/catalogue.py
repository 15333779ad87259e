"""The recipes that the service offers by name: the YAML files of one directory, each with the files beside it."""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from builder.derived import derived
from builder.errors import Fault, Rejected
from builder.recipes.document import MAX_WHOLE_BYTES, RecipeInvalid, parse
from builder.recipes.model import NAME, File, Recipe
from builder.recipes.parameters import Parameter, Value, escaped
from builder.recipes.reading import Filled, fill_recipe, recipe_digest

MAX_FILE_BYTES = 128 * 1024
# Reads a file beside a recipe, up to one byte more than the limit. Raises NotBeside.
Beside = Callable[[str], bytes]


class RecipeUnknown(Rejected):
    slug = "recipe-unknown"
    title = "There is no recipe of that name"
    status = 404


class NotBeside(Exception):
    """A file that a recipe names is not to be had: why, and the way out."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Listed:
    """A recipe of the catalogue, its files embedded, the digest of the whole, and the file it was read from. Of its
    parameters the recipe has the values that were asked for, or else their defaults."""

    recipe: Recipe
    digest: str
    path: Path
    parameters: Mapping[str, Value] = field(default_factory=dict)
    declared: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.recipe.metadata.name


class Catalogue:
    """Reads the directory anew at each call: a recipe that is edited takes effect with the next build."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._directory.glob("*.yaml"))

    def get(self, name: str, given: Mapping[str, object] | None = None) -> Listed:
        """Raises RecipeUnknown, ParameterInvalid, or RecipeInvalid if the file of that name is at fault."""
        path = self._directory / f"{name}.yaml"
        # To list the directory takes longer than all else here.
        if not (re.fullmatch(NAME, name) and path.is_file()) and name not in (names := self.names()):
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names) or 'none'}"
            raise RecipeUnknown(f"no recipe is named {name[:63]!r}", hint=hint)
        filled = fill_recipe_file(path, given or {})
        recipe = filled.recipe
        if recipe.metadata.name != name:
            fault = Fault(
                message=f"must be {name!r}, as the file is named", field="metadata.name", hint="rename one of the two"
            )
            raise RecipeInvalid(f"{path.name}: {fault}", errors=[fault])
        return Listed(recipe, recipe_digest(recipe), path, filled.values, filled.declared)


def read_recipe_file(path: Path) -> Recipe:
    """Read a recipe from disk and embed the files it names, so that it is whole and can be sent anywhere.

    Raises RecipeUnknown if there is no such file and RecipeInvalid for every fault in it.
    """
    return fill_recipe_file(path, {}).recipe


def fill_recipe_file(path: Path, given: Mapping[str, object]) -> Filled:
    """The same with values for the recipe's parameters. Raises ParameterInvalid, too."""
    text = _text(path)
    filled = fill_recipe(text, given, source=path.name) if given else _filled(text, path.name)
    recipe = embed_sources(filled.recipe, partial(_read_beside, path.parent), source=path.name)
    return Filled(recipe, filled.declared, filled.values)


def written_recipe_file(path: Path, given: Mapping[str, object]) -> dict[str, Any]:
    """A recipe as it is to be sent: with its parameters, which the service fills in, and its files embedded.

    Raises as `fill_recipe_file`.
    """
    whole = fill_recipe_file(path, given)
    if not whole.declared:
        return whole.recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    data: dict[str, Any] = parse(_text(path), source=path.name).data
    for written, file in zip(data["spec"].get("files") or (), whole.recipe.spec.files, strict=True):
        if written.pop("source", None) is not None:
            text = file.content
            written |= {"contentBase64": file.content_base64} if text is None else {"content": escaped(text)}
    return data


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecipeUnknown(f"cannot read {path}: {error.strerror}", hint="check the path") from error


@lru_cache(maxsize=64)
def _filled(text: bytes, source: str) -> Filled:
    """The same text means the same recipe; to parse it takes longer than all else that a request for a build needs."""
    return fill_recipe(text, {}, source=source)


def embed_sources(recipe: Recipe, beside: Beside, *, source: str) -> Recipe:
    """The recipe with the content of each file that it names, together in bounds. Raises RecipeInvalid."""
    contents: list[_Content | None] = []
    total = 0
    for index, file in enumerate(recipe.spec.files):
        content = _content(file.source, beside, index, source) if file.source is not None else None
        total += len((content.text if content else file.content or file.content_base64 or "").encode())
        if total > MAX_WHOLE_BYTES:
            fault = Fault(
                message=f"the recipe's files are together larger than {MAX_WHOLE_BYTES} bytes",
                field=f"spec.files[{index}]",
                hint="put them into a package",
            )
            raise RecipeInvalid(f"{source}: {fault}", errors=[fault])
        contents.append(content)
    return _embedded(recipe, tuple(contents)) if any(contents) else recipe


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


@dataclass(frozen=True)
class _Content:
    """Of a file: as text, or in base64 what is none."""

    text: str
    base64: bool = False


@derived(8)
def _embedded(recipe: Recipe, contents: tuple[_Content | None, ...]) -> Recipe:
    """`contents` has one for each file of the recipe, None for those that have theirs already."""
    files = []
    for file, content in zip(recipe.spec.files, contents, strict=True):
        if content is not None:
            given = {"content_base64" if content.base64 else "content": content.text}
            file = File(path=file.path, owner=file.owner, mode=file.mode, **given)
        files.append(file)
    return recipe.model_copy(update={"spec": recipe.spec.model_copy(update={"files": files})})


def _content(name: str, beside: Beside, index: int, source: str) -> _Content:
    try:
        data = beside(name)
        if len(data) > MAX_FILE_BYTES:
            raise NotBeside(f"{name!r} is larger than {MAX_FILE_BYTES} bytes", "put it into a package")
    except NotBeside as error:
        fault = Fault(message=str(error), field=f"spec.files[{index}].source", hint=error.hint)
        raise RecipeInvalid(f"{source}: {fault}", errors=[fault]) from error
    try:
        return _Content(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _Content(base64.b64encode(data).decode("ascii"), base64=True)


def _read_beside(directory: Path, name: str) -> bytes:
    root = directory.resolve()
    try:
        target = (root / name).resolve()
    except RuntimeError as error:  # pathlib's word for links in a circle, before Python 3.13
        raise NotBeside(f"{name!r} is a link to itself", "name a file") from error
    if not target.is_relative_to(root):
        raise NotBeside(f"{name!r} leads out of the recipe's directory", "keep it beside the recipe")
    try:
        # Asked before opening: to open a pipe would wait for a writer.
        if target.exists() and not target.is_file():
            raise NotBeside(f"{name!r} is not a plain file", "name a file")
        with target.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise NotBeside(f"cannot read {name!r}: {error.strerror}", "check the path") from error
