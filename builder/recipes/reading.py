"""Text into a recipe: model errors are told in the writer's terms, with line, column, rule and way out."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

import rfc8785
from pydantic import BaseModel, Tag, ValidationError

from builder.derived import derived
from builder.errors import Fault
from builder.recipes.document import Document, Path, RecipeInvalid, parse
from builder.recipes.model import Recipe
from builder.recipes.parameters import (
    Declared,
    Parameter,
    Value,
    WrittenRecipe,
    accepted,
    as_text,
    fill_in,
    refuse_secrets,
)

_MAX_FAULTS = 20
# Lists of unions: after the index of an item Pydantic's locations name the member by its tag, which nobody wrote.
_UNIONS = ("tests", "run")
# Where YAML and JSON disagree about a character in quotes: a line break there, text here, or not allowed at all.
_ESCAPED = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Filled:
    """A recipe with its parameters filled in: which there are, and the value of each."""

    recipe: Recipe
    declared: Mapping[str, Parameter] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)


def read_recipe(text: str | bytes, *, source: str = "recipe") -> Recipe:
    """Parse and validate. Raises RecipeInvalid that lists every fault, each with its place."""
    return fill_recipe(text, {}, source=source).recipe


def fill_recipe(text: str | bytes, given: Mapping[str, object], *, source: str = "recipe") -> Filled:
    """The same with values for the recipe's parameters. Raises RecipeInvalid or ParameterInvalid."""
    document = parse(text, source=source)
    if not isinstance(document.data, dict) or "parameters" not in document.data:
        accepted({}, given, source)
        return Filled(validate(document, source=source))
    declared = _declared(document, source)
    values = accepted(declared, given, source)
    return Filled(validate(fill_in(document, values, source), source=source), declared, values)


def recipe_from_data(data: Any, *, source: str = "recipe") -> Recipe:
    """Validate a recipe that came as JSON inside a request; it goes through the same limits as text."""
    return fill_from_data(data, {}, source=source).recipe


def fill_from_data(data: Any, given: Mapping[str, object], *, source: str = "recipe") -> Filled:
    """The same with values for the recipe's parameters. Raises RecipeInvalid or ParameterInvalid."""
    try:
        text = json_text(data)
    except RecursionError as error:
        raise RecipeInvalid(f"{source}: nested too deeply", errors=[Fault(message="nested too deeply")]) from error
    except ValueError as error:  # of an integer with thousands of digits
        fault = Fault(message="a number is too long", hint="write it as a text, in quotes")
        raise RecipeInvalid(f"{source}: {fault}", errors=[fault]) from error
    return fill_recipe(text, given, source=source)


def json_text(data: Any) -> str:
    """JSON that means the same when it is read as YAML. Raises RecursionError, and ValueError for a number too long."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def validate(document: Document, *, source: str) -> Recipe:
    try:
        return Recipe.model_validate(document.data)
    except ValidationError as error:
        if not _wanted_as_texts(error, document):
            raise _invalid(error, document, source) from error
    try:
        return Recipe.model_validate(document.data)
    except ValidationError as error:
        raise _invalid(error, document, source) from error


def _wanted_as_texts(error: ValidationError, document: Document) -> bool:
    """Writes numbers and truth values that were filled in as texts where the recipe wants text. Says whether any."""
    found = False
    for entry in error.errors(include_url=False, include_context=False):
        path = _written(entry["loc"], document)
        if entry["type"] == "string_type" and path in document.filled and isinstance(entry["input"], bool | int):
            within = document.data
            for part in path[:-1]:
                within = within[part]
            within[path[-1]] = as_text(entry["input"])
            found = True
    return found


def _declared(document: Document, source: str) -> dict[str, Parameter]:
    try:
        declared = Declared.model_validate({"parameters": document.data["parameters"]}).parameters
    except ValidationError as error:
        raise _invalid(error, document, source) from error
    refuse_secrets(declared, document, source)
    return declared


def _invalid(error: ValidationError, document: Document, source: str) -> RecipeInvalid:
    faults = faults_of(error, document, WrittenRecipe)
    shown = "; ".join(str(fault) for fault in faults[:3])
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return RecipeInvalid(f"{source}: {shown}{more}", errors=faults[:_MAX_FAULTS])


@derived(8)
def canonical_json(recipe: Recipe) -> bytes:
    """The recipe as RFC 8785 JSON: what its digest is over, and what the provenance quotes."""
    return rfc8785.dumps(recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def recipe_digest(recipe: Recipe) -> str:
    return "sha256:" + hashlib.sha256(canonical_json(recipe)).hexdigest()


def faults_of(error: ValidationError, document: Document, root: type[BaseModel] = Recipe) -> list[Fault]:
    """What is wrong with a document that was to be a `root`, in the order of the text."""
    faults: dict[tuple[Path, str], Fault] = {}
    for entry in error.errors(include_url=False, include_context=True):
        path = _written(entry["loc"], document)
        message, hint = _explain(entry, path, root)
        if path in document.filled:
            message += f", with {' and '.join(f'the parameter {name!r}' for name in document.filled[path])} filled in"
        line, column = document.place(path)
        key = (path, message)
        faults.setdefault(key, Fault(message=message, field=document.dotted(path), line=line, column=column, hint=hint))
    return sorted(faults.values(), key=lambda fault: (fault.line or 0, fault.column or 0))


def _written(location: Path, document: Document) -> Path:
    """A location as the writer knows it: without the tags of unions, and without the mark of a mapping's key."""
    path = tuple(part for index, part in enumerate(location) if not _is_tag(location, index))
    return path[:-1] if path and path[-1] == "[key]" and path not in document.places else path


def _is_tag(location: Path, index: int) -> bool:
    return index >= 2 and location[index - 2] in _UNIONS and isinstance(location[index - 1], int)


def _explain(entry: Any, path: Path, root: type[BaseModel]) -> tuple[str, str | None]:
    kind = entry["type"]
    context = entry.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _allowed_keys(entry["loc"][:-1], root)
        near = difflib.get_close_matches(str(path[-1]), allowed, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"allowed here: {', '.join(sorted(allowed))}"
        return "unknown key", hint
    if kind == "missing":
        return "is required", None
    if kind == "string_pattern_mismatch":
        return f"{_shown(entry['input'])} does not match {context.get('pattern')}", _pattern_hint(path)
    if kind == "string_type" and path and path[-1] == "mode":
        return "must be a string of octal digits", "write it in quotes: '0644'"
    if kind == "bool_type":
        return f"must be true or false, not {_shown(entry['input'])}", None
    if kind == "value_error":
        return str(context.get("error", entry["msg"])), None
    if kind == "literal_error":
        return f"must be {context.get('expected')}, not {_shown(entry['input'])}", None
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be a mapping, `key: value` in each line, not {_shown(entry['input'])}", None
    message = entry["msg"]
    return message[0].lower() + message[1:] + f" (found {_shown(entry['input'])})", None


def _pattern_hint(path: Path) -> str | None:
    names = {
        "packages": "a Debian package name, or name=version",
        "mode": "octal digits in quotes, such as '0644'",
        "image": "an image by digest: REGISTRY/REPOSITORY@sha256:…",
        "name": "lower-case letters, digits and dashes",
        "owner": "user, uid, user:group or uid:gid",
        "stopSignal": "such as SIGTERM or SIGQUIT",
        "repository": "lower-case path components, such as golden/web",
        "ports": "such as '8080/tcp', in quotes",
    }
    return next((names[part] for part in reversed(path) if isinstance(part, str) and part in names), None)


def _allowed_keys(location: Path, root: type[BaseModel]) -> list[str]:
    """The keys that the model at a location takes; tags in it name the members of unions."""
    annotation: Any = root
    for index, part in enumerate(location):
        if isinstance(part, int):
            continue
        annotation = _tagged(annotation, part) if _is_tag(location, index) else _field(annotation, part)
    models = [kind for kind in _flattened(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [field.alias or name for model in models[:1] for name, field in model.model_fields.items()]


def _field(annotation: Any, alias: str) -> Any:
    for kind in _flattened(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                if alias in (field.alias, name):
                    return field.annotation
        elif get_origin(kind) is dict:  # of names that the writer chose
            return get_args(kind)[1]
    return None


def _tagged(annotation: Any, tag: str) -> Any:
    return next((kind for kind in _flattened(annotation) if Tag(tag) in getattr(kind, "__metadata__", ())), annotation)


def _flattened(annotation: Any) -> list[Any]:
    """An annotation and all that it is made of, outermost first."""
    return [annotation, *(inner for part in get_args(annotation) for inner in _flattened(part))]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…'"
