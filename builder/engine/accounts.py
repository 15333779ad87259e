"""System accounts as text: passwd(5), group(5) and shadow(5), edited without any tool of the image.

Images without useradd get users too, and nothing depends on the day: shadow's dates stay empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from builder.errors import Rejected
from builder.recipes.model import User


class AccountConflict(Rejected):
    slug = "account-conflict"
    title = "A user of the recipe is there already"


@dataclass(frozen=True)
class Accounts:
    """The contents of /etc/passwd, /etc/group and /etc/shadow (None where an image has no such file)."""

    passwd: str
    group: str
    shadow: str | None

    def add(self, users: Sequence[User]) -> Accounts:
        """Append users, each with a group of its own name unless the gid is there already. Raises AccountConflict."""
        passwd, group, shadow = self.passwd, self.group, self.shadow
        for index, user in enumerate(users):
            gid = user.gid if user.gid is not None else user.uid
            for name, uid in _pairs(passwd):
                if name == user.name or uid == user.uid:
                    raise AccountConflict(
                        f"spec.users[{index}]: the image already has {name} with uid {uid}",
                        hint="choose another name and uid",
                    )
            groups = _pairs(group)
            if gid not in {number for _, number in groups}:
                if user.name in {name for name, _ in groups}:
                    raise AccountConflict(
                        f"spec.users[{index}]: the image already has a group {user.name}", hint="give its gid"
                    )
                group = _appended(group, f"{user.name}:x:{gid}:")
            passwd = _appended(passwd, f"{user.name}:x:{user.uid}:{gid}::{user.home}:{user.shell}")
            if shadow is not None:
                shadow = _appended(shadow, f"{user.name}:!*:::::::")
        return Accounts(passwd, group, shadow)

    def locked(self) -> Accounts:
        """No account can log in with a password, and no password hash stays in the image.

        passwd(5) may hold a hash too, and an empty field there is a login without any password.
        """
        shadow = None if self.shadow is None else _with_second_field(self.shadow, ("*", "!*"), "!*")
        return Accounts(_with_second_field(self.passwd, ("x", "*", "!"), "*"), self.group, shadow)

    def uid(self, name: str) -> int:
        return _number(name, self.passwd, "user")

    def gid(self, name: str) -> int:
        return _number(name, self.group, "group")

    def owner(self, owner: str) -> tuple[int, int]:
        """`user`, `user:group` or numbers, as (uid, gid); a user alone brings its own group. Raises AccountConflict."""
        user, _, group = owner.partition(":")
        uid = self.uid(user)
        if group:
            return uid, self.gid(group)
        own = [line.split(":") for line in _lines(self.passwd)]
        return uid, next((int(f[3]) for f in own if len(f) > 3 and f[2] == str(uid) and f[3].isdecimal()), uid)


def _lines(text: str) -> list[str]:
    """A line ends with a newline and with nothing else that Python takes for an end."""
    return text.removesuffix("\n").split("\n") if text else []


def _with_second_field(text: str, kept: tuple[str, ...], locked: str) -> str:
    lines = []
    for line in _lines(text):
        fields = line.split(":")
        if len(fields) > 1 and fields[1] not in kept:
            fields[1] = locked
        lines.append(":".join(fields))
    return "\n".join(lines) + "\n" if lines else text


def _pairs(text: str) -> list[tuple[str, int]]:
    """(name, number) of each line; both passwd and group have them first and third."""
    rows = (line.split(":") for line in _lines(text))
    return [(row[0], int(row[2])) for row in rows if len(row) > 2 and row[2].isdecimal()]


def _number(name: str, text: str, what: str) -> int:
    if name.isdecimal():
        return int(name)
    for known, number in _pairs(text):
        if known == name:
            return number
    raise AccountConflict(f"the image has no {what} {name!r}", hint="add it to spec.users, or give a number")


def _appended(text: str, line: str) -> str:
    return f"{text.rstrip()}\n{line}\n" if text.strip() else f"{line}\n"
