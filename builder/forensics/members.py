"""Two documents, member by member: image configurations, recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Lists whose order is their meaning are told whole; of all others what came and what went.
_WHOLE = frozenset({"cmd", "command", "entrypoint", "onbuild", "shell", "test"})
# The layers and their history are what the paths are; those are compared themselves.
_NOT_CONFIGURATION = frozenset({"rootfs", "history"})


@dataclass(frozen=True)
class Member:
    """A member that differs; `before` and `after` are values as text, None for one that is not there."""

    name: str
    before: str | None
    after: str | None


def changed_configuration(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Member, ...]:
    """What differs between two image configs (OCI image-spec, config.md), each environment variable by itself."""
    return changed_members(_configuration(before), _configuration(after))


def changed_members(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Member, ...]:
    return tuple(_changed(dict(before), dict(after), ""))


def _changed(before: Any, after: Any, name: str) -> Iterator[Member]:
    if before == after:
        return
    if _with_members(before, after):
        before, after = before or {}, after or {}
        for key in sorted(before.keys() | after.keys()):
            yield from _changed(before.get(key), after.get(key), f"{name}.{key}" if name else str(key))
        return
    if isinstance(before, list) and isinstance(after, list) and name.rpartition(".")[2].lower() not in _WHOLE:
        gone, new = [one for one in before if one not in after], [one for one in after if one not in before]
        if gone or new:
            yield from (Member(name, _text(one), None) for one in gone)
            yield from (Member(name, None, _text(one)) for one in new)
            return
    yield Member(name, _text(before), _text(after))


def _with_members(before: Any, after: Any) -> bool:
    """Whether there are members to tell one by one; of a document that came or went, too."""
    if isinstance(before, dict) and isinstance(after, dict):
        return True
    there = before if after is None else after if before is None else None
    return isinstance(there, dict) and bool(there)


def _configuration(document: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in document.items() if name not in _NOT_CONFIGURATION}
    config = kept.get("config")
    if isinstance(config, dict) and isinstance(config.get("Env"), list):
        variables = (str(entry).partition("=") for entry in config["Env"])
        kept["config"] = {**config, "Env": {name: value for name, _, value in variables}}
    return kept


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
