"""Accounts as passwd(5) and shadow(5) state them: who can log in, and how. No password's hash leaves this module."""

from __future__ import annotations

import re
from typing import Literal

from builder.policy.facts import Account

_Password = Literal["locked", "set", "empty"]

_NUMBER = re.compile(r"\s*\+?0*(?P<digits>[0-9]{0,10})\s*", re.ASCII)


def accounts_of(passwd: bytes, shadow: bytes | None) -> tuple[Account, ...]:
    """The accounts of an image. Of two lines for one name the first counts, and an uid that is no number is 0: so
    the C library and engines read them."""
    hidden: dict[str, str] = {}
    for row in _rows(shadow or b""):
        if len(row) > 1:
            hidden.setdefault(row[0], row[1])
    return tuple(
        Account(
            name=row[0],
            uid=_number(row[2]),
            password=_password(hidden.get(row[0], "*") if row[1] == "x" else row[1]),
            home=row[5] if len(row) > 5 else "",
            shell=row[6] if len(row) > 6 else "",
        )
        for row in _rows(passwd)
        if len(row) > 2 and row[0]
    )


def _rows(text: bytes) -> list[list[str]]:
    lines = (line.strip() for line in text.decode("utf-8", "replace").split("\n"))
    return [line.split(":") for line in lines if line and not line.startswith("#")]


def _number(field: str) -> int:
    found = _NUMBER.fullmatch(field)
    return int(found["digits"] or "0") if found else 0


def _password(field: str) -> _Password:
    if not field:
        return "empty"
    return "locked" if field[0] in "!*" else "set"
