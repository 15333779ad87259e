"""Accounts as passwd(5) and shadow(5) state them: who can log in, and how. No password's hash leaves this module."""

from __future__ import annotations

from typing import Literal

from builder.policy.facts import Account

_Password = Literal["locked", "set", "empty"]


def accounts_of(passwd: bytes, shadow: bytes | None) -> tuple[Account, ...]:
    """The accounts of an image. What is no line of passwd(5) is none, as for the C library."""
    hidden = {row[0]: row[1] for row in _rows(shadow or b"") if len(row) > 1}
    return tuple(
        Account(
            name=row[0],
            uid=int(row[2]),
            password=_password(hidden.get(row[0], "*") if row[1] == "x" else row[1]),
            home=row[5] if len(row) > 5 else "",
            shell=row[6] if len(row) > 6 else "",
        )
        for row in _rows(passwd)
        if len(row) > 2 and row[0] and row[2].isascii() and row[2].isdecimal() and len(row[2]) <= 10
    )


def _rows(text: bytes) -> list[list[str]]:
    return [line.split(":") for line in text.decode("utf-8", "replace").split("\n") if line]


def _password(field: str) -> _Password:
    if not field:
        return "empty"
    return "locked" if field[0] in "!*" else "set"
