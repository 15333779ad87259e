"""Parameters: values that a recipe leaves open, within what it allows, for each request to fill in.

`${parameters.NAME}` in a text stands for a value. A value fills in a text, or is the whole of one, of a number or
of a truth value; it adds no key, no item and no line of a script, so that it is data and never structure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic_core import SchemaError

from builder.errors import Fault, Rejected
from builder.recipes.document import MAX_BYTES, Document, Path, RecipeInvalid
from builder.recipes.model import Recipe, Strict, Text

Value = str | int | bool

# What a text may be when its parameter says nothing: no quotes, no shell's or YAML's signs, and no option.
PLAIN = "[A-Za-z0-9][A-Za-z0-9 ._+:/@~=,-]*"
_REFERENCE = re.compile(r"(\$?)\$\{parameters\.([^}]*)(\}?)")
_INTEGER = re.compile("-?(0|[1-9][0-9]{0,14})", re.ASCII)
_SECRET = re.compile("password|passwd|passphrase|secret|token|credential|apikey|privatekey", re.IGNORECASE)
_MOST = 1024

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9]{0,39}$")]


class ParameterInvalid(Rejected):
    """The recipe declares its parameters, and what each of them may be."""

    slug = "parameter-invalid"
    title = "A parameter is not as the recipe wants it"
    status = 422


class Parameter(Strict):
    """What a request may fill in. Whoever reads the image's provenance reads the value, so no secret can be one."""

    type: Literal["string", "integer", "boolean"] = "string"
    description: Text = ""
    default: Value = Field(description="What it is unless a request says otherwise.")
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        default=None, description=f"Of a string: a regular expression over all of it. Without one it is {PLAIN}."
    )
    allowed: Annotated[list[Value], Field(max_length=100)] = Field(default=[], description="The only values.")
    minimum: int | None = Field(default=None, description="Of an integer.")
    maximum: int | None = Field(default=None, description="Of an integer.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.pattern is not None and self.type != "string":
            raise ValueError("'pattern' is for a string")
        if (self.minimum is not None or self.maximum is not None) and self.type != "integer":
            raise ValueError("'minimum' and 'maximum' are for an integer")
        if self.pattern is not None:
            try:
                _matcher(self.pattern)
            except SchemaError as error:
                raise ValueError("'pattern' is not a regular expression that is understood here") from error
        for name, values in (("allowed", self.allowed), ("default", [self.default])):
            for value in values:
                try:
                    held = self.accept(value)
                except ValueError as error:
                    raise ValueError(f"'{name}': {error}") from error
                if type(held) is not type(value):
                    raise ValueError(f"'{name}': {value!r} is written as a text; a {self.type} is not")
        return self

    def accept(self, given: object) -> Value:
        """The value that was given, also as text. Raises ValueError that says what it must be."""
        value = self._typed(given)
        if isinstance(value, str) and len(value) > _MOST:
            raise ValueError(f"has {len(value)} characters; {_MOST} are allowed")
        if self.allowed:
            # A truth value equals a number.
            if not any(type(one) is type(value) and one == value for one in self.allowed):
                raise ValueError(f"must be one of {', '.join(_shown(one) for one in self.allowed)}")
        elif isinstance(value, str):
            if not value.isprintable():
                raise ValueError("holds a character that cannot be printed")
            if not _matches(self.pattern or PLAIN, value):
                raise ValueError(f"{_shown(value)} does not match {self.pattern or PLAIN}")
        elif self.type == "integer":
            if self.minimum is not None and value < self.minimum:
                raise ValueError(f"must be at least {self.minimum}")
            if self.maximum is not None and value > self.maximum:
                raise ValueError(f"must be at most {self.maximum}")
        return value

    def _typed(self, given: object) -> Value:
        if self.type == "string":
            if isinstance(given, str):
                return given
        elif self.type == "boolean":
            if isinstance(given, bool):
                return given
            if given in ("true", "false"):
                return given == "true"
        elif not isinstance(given, bool):
            if isinstance(given, int) and abs(given) < 10**15:
                return given
            if isinstance(given, str) and _INTEGER.fullmatch(given):
                return int(given)
        wanted = {"string": "a text", "integer": "a whole number", "boolean": "true or false"}[self.type]
        raise ValueError(f"must be {wanted}, not {_shown(given)}")


class WrittenRecipe(Recipe):
    """A recipe as it is written: with the parameters that it leaves open."""

    parameters: Annotated[dict[_Name, Parameter], Field(max_length=50)] = Field(
        default={}, description="Values that a request may fill in; `${parameters.NAME}` in a text stands for one."
    )


class Declared(Strict):
    """The parameters alone, read before anything is filled in."""

    parameters: Annotated[dict[_Name, Parameter], Field(max_length=50)]


def refuse_secrets(declared: Mapping[str, Parameter], document: Document, source: str) -> None:
    """Raises RecipeInvalid for a parameter whose name says that it is one."""
    for name in declared:
        if _SECRET.search(name):
            _refuse(
                document, source, ("parameters", name), f"the parameter {name!r} sounds like a secret",
                "its value is in the signed record for all to read: mount secrets where containers run",
            )  # fmt: skip


def accepted(declared: Mapping[str, Parameter], given: Mapping[str, object], recipe: str) -> dict[str, Value]:
    """The value of every parameter. Raises ParameterInvalid that names each one at fault."""
    faults = []
    values = {name: parameter.default for name, parameter in declared.items()}
    for name, value in given.items():
        field = f"parameters.{name[:60]}"
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            known = f"there are: {', '.join(declared)}" if declared else "the recipe has none"
            faults.append(
                Fault(field=field, message="unknown parameter", hint=f"did you mean {near[0]!r}?" if near else known)
            )
            continue
        try:
            values[name] = declared[name].accept(value)
        except ValueError as error:
            faults.append(Fault(field=field, message=str(error), hint=declared[name].description or None))
    if faults:
        raise ParameterInvalid(f"{recipe}: " + "; ".join(str(fault) for fault in faults[:3]), errors=faults[:20])
    return values


def fill_in(document: Document, values: Mapping[str, Value], source: str) -> Document:
    """The document without its parameters, each reference replaced. Raises RecipeInvalid."""
    filling = _Filling(document, values, source)
    data = {key: filling.fill(value, (key,)) for key, value in document.data.items() if key != "parameters"}
    return replace(document, data=data, filled=filling.filled)


def as_text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def escaped(text: str) -> str:
    """A text that filling in leaves as this one."""
    return _REFERENCE.sub(lambda found: "$" + found[0], text)


class _Filling:
    def __init__(self, document: Document, values: Mapping[str, Value], source: str) -> None:
        self._document = document
        self._values = values
        self._source = source
        self._length = 0
        self.filled: dict[Path, tuple[str, ...]] = {}

    def fill(self, data: Any, path: Path) -> Any:
        if isinstance(data, dict):
            for key in data:
                if any(True for _ in self._references(key, (*path, key))):
                    self._refuse((*path, key), "a key takes no parameter", "write the key out")
            return {key: self.fill(value, (*path, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [self.fill(item, (*path, index)) for index, item in enumerate(data)]
        return self._text(data, path) if isinstance(data, str) else data

    def _text(self, text: str, path: Path) -> Value:
        names = list(self._references(text, path))
        if names:
            self._refuse_fixed(path)
            self.filled[path] = tuple(dict.fromkeys(names))
        whole = len(names) == 1 and text == f"${{parameters.{names[0]}}}"
        made = self._values[names[0]] if whole else _REFERENCE.sub(self._replaced, text)
        self._length += len(str(made))
        if self._length > MAX_BYTES:
            self._refuse(path, f"with its parameters the recipe is larger than {MAX_BYTES} characters", None)
        return made

    def _replaced(self, found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        return as_text(self._values[found[2]])

    def _references(self, text: str, path: Path) -> Iterator[str]:
        for found in _REFERENCE.finditer(text):
            if found[1]:
                continue
            name = found[2]
            if not found[3]:
                self._refuse(
                    path, "'${parameters.' is not closed", "'${parameters.NAME}'; '$${parameters.' is the text"
                )
            if name not in self._values:
                near = difflib.get_close_matches(name, self._values, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "declare it under 'parameters'"
                self._refuse(path, f"no parameter is named {name[:60]!r}", hint)
            yield name

    def _refuse_fixed(self, path: Path) -> None:
        """Who may build, where it is published and what is let through are not the caller's to fill in."""
        if path[0] in ("apiVersion", "kind") or path[:2] in (("metadata", "name"), ("spec", "policy")):
            self._refuse(path, "takes no parameter", "write the value out")
        if path == ("spec", "publish", "repository"):
            self._refuse(path, "takes no parameter", "write the value out; 'tags' may have one")
        if path[:2] == ("spec", "run") and path[-1] == "shell":
            self._refuse(
                path, "a script takes no parameter",
                "give it to the script: command: [sh, -euc, 'echo \"$1\"', sh, '${parameters.NAME}']",
            )  # fmt: skip

    def _refuse(self, path: Path, message: str, hint: str | None) -> NoReturn:
        _refuse(self._document, self._source, path, message, hint)


def _refuse(document: Document, source: str, path: Path, message: str, hint: str | None) -> NoReturn:
    line, column = document.place(path)
    fault = Fault(message=message, field=document.dotted(path), line=line, column=column, hint=hint)
    raise RecipeInvalid(f"{source}: {fault}", errors=[fault])


def _matcher(pattern: str) -> TypeAdapter[str]:
    """Pydantic's own regular expressions take time linear in the text, whatever the pattern; Python's do not."""
    alone: TypeAdapter[str] = TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
    del alone  # made to see that it is whole, before it is put between brackets
    return TypeAdapter(Annotated[str, StringConstraints(pattern=f"^(?:{pattern})$")])


def _matches(pattern: str, value: str) -> bool:
    try:
        _matcher(pattern).validate_python(value)
    except ValidationError:
        return False
    return True


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 80 else text[:77] + "…'"
