"""Hardening as a pure function over the entries of a tree: what stays, what loses its bits, what goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from builder.image.entry import Entry, EntryType
from builder.recipes.model import Hardening

_SETID = 0o6000
_DOCUMENTATION = (b"usr/share/man/", b"usr/share/info/", b"usr/share/locale/", b"usr/share/lintian/")
_DOC = b"usr/share/doc/"
PACKAGE_MANAGER = ("apt", "dpkg")

Edit = Callable[[Entry], Entry | None]


def hardening_edit(hardening: Hardening, manager_files: Iterable[str] = ()) -> Edit:
    """The edit that a recipe's hardening asks for. `manager_files` are the paths that apt and dpkg own."""
    keep = {path.lstrip("/").encode() for path in hardening.keep_setuid}
    manager = {path.lstrip("/").encode() for path in manager_files} if hardening.remove_package_manager else set()

    def edit(entry: Entry) -> Entry | None:
        if entry.type is not EntryType.DIRECTORY:
            if entry.path in manager:
                return None
            if hardening.remove_documentation and _is_documentation(entry.path):
                return None
        setid_counts = entry.type in (EntryType.FILE, EntryType.HARDLINK)
        if hardening.remove_setuid and setid_counts and entry.mode & _SETID and entry.path not in keep:
            return replace(entry, mode=entry.mode & ~_SETID)
        return entry

    return edit


def described(hardening: Hardening) -> str:
    """What is taken away, for the build's step."""
    named = {
        "set-uid and set-gid bits": hardening.remove_setuid,
        "passwords": hardening.lock_passwords,
        "documentation": hardening.remove_documentation,
        "package manager": hardening.remove_package_manager,
    }
    taken = [name for name, wanted in named.items() if wanted]
    return f"without {', '.join(taken)}" if taken else "nothing taken away"


def _is_documentation(path: bytes) -> bool:
    if path.startswith(_DOC):
        return not path.endswith(b"/copyright")
    return path.startswith(_DOCUMENTATION)
