"""YAML and JSON text into plain data, with the place of every key and value kept for error messages.

A recipe is untrusted text, so only the plain part of YAML is accepted: mappings, lists and scalars. Anchors, aliases,
tags and duplicate keys are refused (they hide content or expand it), and so is anything too large or too deep.
Scalars follow YAML 1.2's core schema, not PyYAML's 1.1: `on` is a word and 0644 keeps its zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from builder.errors import Fault, Rejected

MAX_BYTES = 256 * 1024
# Of a recipe with its files embedded, and of these files together.
MAX_WHOLE_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000

Path = tuple[str | int, ...]

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]{1,17}")
# What an escape can put into a text although no text can hold it: half of a surrogate pair.
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class RecipeInvalid(Rejected):
    slug = "recipe-invalid"
    title = "The recipe is not valid"
    status = 422


@dataclass(frozen=True)
class Document:
    """Plain data and, by path, the (line, column) of each key or list item, both counted from 1, and the names of the
    parameters that a text was filled with."""

    data: Any
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    filled: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    def place(self, path: Path) -> tuple[int, int] | tuple[None, None]:
        """Where a path stands in the text; of a path that is not there (a missing key), where its parent stands."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path[:-1]
        return self.places.get((), (None, None))

    @staticmethod
    def dotted(path: Path) -> str:
        """A path as people write it, spec.files[0].path, on any terminal: keys are a stranger's words."""
        text = ""
        for part in path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        return "".join(c if c.isprintable() else "\ufffd" for c in text)


def parse(text: str | bytes, *, source: str = "recipe") -> Document:
    """Parse one YAML (or JSON) document. Raises RecipeInvalid with line, column, rule and way out."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise _invalid(source, f"the text has {len(raw)} bytes; the limit is {MAX_BYTES}", hint="move content to files")
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(source, f"not UTF-8 at byte {error.start}", hint="save the file as UTF-8") from error
    try:
        _refuse_hidden_content(decoded, source)
        node = yaml.compose(decoded, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise _invalid(source, f"not valid YAML: {error.problem or error.context}", *place) from error
    except yaml.YAMLError as error:
        raise _invalid(source, f"not valid YAML: {error}") from error
    except RecursionError as error:
        raise _invalid(source, "nested too deeply") from error
    if node is None:
        raise _invalid(source, "the document is empty", hint="start with `apiVersion: goldsmith/v1`")
    reader = _Reader(source)
    return Document(reader.read(node, (), 0), reader.places)


def _refuse_hidden_content(text: str, source: str) -> None:
    documents = 0
    depth = 0
    for event in _events(text, source):
        assert event.start_mark is not None
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _invalid(source, "anchors and aliases are not allowed", *place, hint="write the value out")
        tag = getattr(event, "tag", None)
        if tag:
            raise _invalid(source, f"the tag {tag!r} is not allowed", *place, hint="remove it")
        if _SURROGATES.search(getattr(event, "value", None) or ""):
            raise _invalid(
                source, "half a surrogate pair is not a character", *place, hint="write the character itself"
            )
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _invalid(source, "more than one document", *place, hint="one recipe a file")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _invalid(source, f"nested deeper than {MAX_DEPTH} levels", *place)


def _events(text: str, source: str) -> Iterator[yaml.Event]:
    loader = yaml.SafeLoader(text)
    while True:
        try:
            event = loader.get_event()  # type: ignore[no-untyped-call]
        except (ValueError, OverflowError) as error:
            # PyYAML hands the number of a "\\U…" escape to chr() as it stands.
            mark = loader.get_mark()
            raise _invalid(
                source, "an escape is not a character", mark.line + 1, mark.column + 1, hint="the last is U+10FFFF"
            ) from error
        if event is None:
            return
        yield event


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[Path, tuple[int, int]] = {}
        self.nodes = 0

    def read(self, node: yaml.Node, path: Path, depth: int) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.places.setdefault(path, place)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.refuse(node, f"more than {MAX_NODES} values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.refuse(key_node, "a key must be a word")
            key = key_node.value
            if key in result:
                self.refuse(key_node, f"the key {key!r} stands twice", hint="keep one of them")
            self.places[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            result[key] = self.read(value_node, (*path, key), depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.style is not None:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        return text

    def refuse(self, node: yaml.Node, message: str, hint: str | None = None) -> NoReturn:
        raise _invalid(self.source, message, node.start_mark.line + 1, node.start_mark.column + 1, hint=hint)


def _invalid(
    source: str, message: str, line: int | None = None, column: int | None = None, hint: str | None = None
) -> RecipeInvalid:
    fault = Fault(message=message, line=line, column=column, hint=hint)
    return RecipeInvalid(f"{source}: {fault}", errors=[fault])
