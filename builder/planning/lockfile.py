"""Locks as files beside their recipes: JSON with one package a line, so that a diff of two shows what changed."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, TypeVar

from pydantic import ValidationError

from builder.errors import Fault, Rejected
from builder.planning.lock import Lock

SUFFIX = ".lock.json"
LOCK_BYTES = 4 * 1024 * 1024
_MAX_FAULTS = 20
_RENEW = "`goldsmith recipe lock` writes it anew"


_Path = TypeVar("_Path", bound=PurePath)


class LockInvalid(Rejected):
    slug = "lock-invalid"
    title = "The lock is not valid"
    status = 422


def lock_path(recipe: _Path) -> _Path:
    """Where the lock of a recipe's file is: `web.lock.json` beside `web.yaml`."""
    return recipe.with_name(recipe.stem + SUFFIX)


def read_lock_beside(recipe: Path) -> Lock | None:
    """The lock of a recipe's file, or None where there is none. Raises LockInvalid."""
    path = lock_path(recipe)
    try:
        with path.open("rb") as stream:
            return _parsed(stream.read(LOCK_BYTES + 1), path.name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockInvalid(f"cannot read {path}: {error.strerror}", hint="check the file's permissions") from error


@lru_cache(maxsize=64)
def _parsed(text: bytes, source: str) -> Lock:
    """The same text means the same lock, and a service reads it for each request."""
    return parse_lock(text, source=source)


def parse_lock(text: bytes, *, source: str = "lock") -> Lock:
    """Raises LockInvalid that names each field or line at fault."""
    if len(text) > LOCK_BYTES:
        raise LockInvalid(f"{source}: larger than {LOCK_BYTES} bytes", hint=_RENEW)
    try:
        data = json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        fault = Fault(message=f"not JSON: {error.msg}", line=error.lineno, column=error.colno)
        raise LockInvalid(f"{source}: {fault}", errors=[fault], hint=_RENEW) from error
    except (ValueError, RecursionError) as error:
        raise LockInvalid(f"{source}: {error}", hint=_RENEW) from error
    return lock_from_data(data, source=source)


def lock_from_data(data: Any, *, source: str = "lock") -> Lock:
    """Raises LockInvalid."""
    try:
        text = json.dumps(data)
    except (ValueError, RecursionError) as error:  # an integer with thousands of digits, or lists in lists without end
        raise LockInvalid(f"{source}: {error}", hint=_RENEW) from error
    try:
        return Lock.model_validate_json(text)
    except ValidationError as error:
        faults = [
            Fault(
                field=".".join(str(part) for part in entry["loc"]) or None,
                message=entry["msg"][0].lower() + entry["msg"][1:],
            )
            for entry in error.errors(include_input=False, include_url=False)[:_MAX_FAULTS]
        ]
        told = "; ".join(str(fault) for fault in faults[:3])
        raise LockInvalid(f"{source}: {told}", errors=faults, hint=_RENEW) from error


def lock_data(lock: Lock) -> dict[str, Any]:
    """A lock as JSON, without what is not set."""
    return {"version": lock.version, **lock.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


def format_lock(lock: Lock) -> str:
    """The file's text: a member a line, and of every list an item a line."""
    return _object(lock_data(lock), "") + "\n"


def _object(data: dict[str, Any], indent: str) -> str:
    inner = indent + "  "
    members = [f"{inner}{json.dumps(name)}: {_value(value, inner)}" for name, value in data.items()]
    return "{\n" + ",\n".join(members) + f"\n{indent}}}"


def _value(value: Any, indent: str) -> str:
    if isinstance(value, list) and value:
        items = ",\n".join(f"{indent}  {_line(item)}" for item in value)
        return f"[\n{items}\n{indent}]"
    if isinstance(value, dict) and any(isinstance(inner, dict | list) for inner in value.values()):
        return _object(value, indent)
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found
