"""The rules of judgement: where they stand, when they fit, how grave what they find is, and why a responder cares.

They are data (rules.yaml, and a file of one's own before it), read strictly: a rule that is silently wrong would call
a break-in harmless. The first rule that fits decides. docs/comparison-rules.md lists those that ship.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from builder.errors import Fault, Rejected
from builder.forensics.findings import Kind, Severity
from builder.image.canonical_rules import path_regex
from builder.image.entry import EntryType
from builder.recipes.document import Document, RecipeInvalid, parse

FORMAT = "goldsmith-comparison-rules/v1"
_SHIPPED = Path(__file__).with_name("rules.yaml")
_ANYWHERE = "**/"


class RulesInvalid(Rejected):
    slug = "comparison-rules-invalid"
    title = "The rules of a comparison are not valid"


class Power(StrEnum):
    """What a path may give to whoever meets it."""

    SET_UID = "set-uid"
    SET_GID = "set-gid"
    EXECUTABLE = "executable"
    """Anybody's execute bit."""
    WORLD_WRITABLE = "world-writable"
    """Everybody may write; not a directory with the sticky bit, such as /tmp."""
    CAPABILITY = "capability"
    DEVICE = "device"
    """It is a device node, or another name of one."""


def _word_of(kind: type[StrEnum]) -> BeforeValidator:
    def read(value: object) -> object:
        if value not in set(kind):
            raise ValueError(f"must be one of {', '.join(kind)}; found {value!r}")
        return kind(str(value))

    return BeforeValidator(read)


def _severity(value: object) -> object:
    found = {str(severity): severity for severity in Severity}
    if not isinstance(value, str) or value not in found:
        raise ValueError(f"must be one of {', '.join(found)}; found {value!r}")
    return found[value]


def _pattern(value: object) -> object:
    if not isinstance(value, str) or not value or value.startswith("/") or value.endswith("/") or "//" in value:
        raise ValueError("a pattern is a path without a slash at its beginning or end")
    rest = value.removeprefix(_ANYWHERE).removesuffix("/**")
    if "**" in rest:
        raise ValueError("'**' stands for directories at the beginning ('**/') or for everything below ('/**') only")
    return value


_Severity = Annotated[Severity, BeforeValidator(_severity)]
_Kind = Annotated[Kind, _word_of(Kind)]
_Type = Annotated[EntryType, _word_of(EntryType)]
_Power = Annotated[Power, _word_of(Power)]
_Pattern = Annotated[str, BeforeValidator(_pattern), StringConstraints(max_length=1024)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class When(_Strict):
    """What has to hold of a difference: everything that is given."""

    kinds: list[_Kind] = Field(default=[], description="It differs in one of these ways.")
    only: list[_Kind] = Field(default=[], description="It differs in nothing but these ways.")
    types: list[_Type] = Field(default=[], description="It is one of these; of something removed, it was.")
    gained: list[_Power] = Field(default=[], description="It has one of these now and did not have it.")
    has: list[_Power] = Field(default=[], description="It has one of these now.")
    packaged: bool | None = Field(default=None, description="Whether a package installed it.")


class Rule(_Strict):
    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*(\.[a-z0-9-]+)*$", max_length=80)]
    severity: _Severity
    where: list[_Pattern] = Field(default=[], description="Paths; every path if there are none.")
    when: When = When()
    excusable: bool = Field(default=True, description="Whether a place where writes are expected excuses it.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Rules(_Strict):
    format: Literal["goldsmith-comparison-rules/v1"]
    rules: Annotated[list[Rule], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _each_id_once(self) -> Rules:
        seen: set[str] = set()
        for index, rule in enumerate(self.rules):
            if rule.id in seen:
                raise ValueError(f"rules[{index}].id: {rule.id!r} is the id of another rule too")
            seen.add(rule.id)
        return self


@cache
def shipped_rules() -> tuple[Rule, ...]:
    """The rules that come with Goldsmith; the last of them fits everything."""
    return _read(_SHIPPED)


def load_rules(own: Path | None = None) -> tuple[Rule, ...]:
    """The rules of `own`, if it is given, and then the shipped ones. Raises RulesInvalid with file, line and field."""
    return (*_read(own), *shipped_rules()) if own is not None else shipped_rules()


def where_regex(patterns: Sequence[str]) -> re.Pattern[bytes]:
    """One expression for all patterns of a rule."""
    return re.compile("|".join(_regexes(patterns)).encode("utf-8"), re.DOTALL)


def _regexes(patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        anywhere = pattern.startswith(_ANYWHERE)
        yield ("(?:.+/)?" if anywhere else "") + path_regex(pattern.removeprefix(_ANYWHERE))


def _read(file: Path) -> tuple[Rule, ...]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RulesInvalid(f"{file} cannot be read: {error.strerror}", hint="name a YAML file of rules") from error
    try:
        document = parse(content, source=str(file))
    except RecipeInvalid as error:
        raise RulesInvalid(error.detail, errors=error.errors) from error
    try:
        return tuple(Rules.model_validate(document.data).rules)
    except ValidationError as error:
        faults = _faults(error, document)
        told = "; ".join(str(fault) for fault in faults[:3])
        raise RulesInvalid(f"{file}: {told}", hint="docs/comparison-rules.md has the format", errors=faults) from error


def _faults(error: ValidationError, document: Document) -> list[Fault]:
    faults = []
    for one in error.errors(include_url=False, include_context=False)[:20]:
        path = tuple(one["loc"])
        line, column = document.place(path)
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        message = "unknown key" if one["type"] == "extra_forbidden" else one["msg"].removeprefix("Value error, ")
        faults.append(Fault(message=message, field=field or None, line=line, column=column))
    return faults
