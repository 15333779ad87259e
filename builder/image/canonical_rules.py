"""What the canonical form leaves out, empties or settles: all of it, with the reason for each row.

Two builds of one lock may differ only in what stands here. Everything else that differs is a fault to be found. The
same table for people, made from this one, is docs/formats/canonical.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from builder.image.entry import Entry, EntryType


class Action(StrEnum):
    DROP = "drop"
    """Left out of the image."""
    EMPTY = "empty"
    """A regular file stays, without its content; other types stay as they are."""
    CONTENTS = "contents"
    """What is in the directory is left out; the directory stays, with the row's mode and owned by root."""
    ENGINE = "engine"
    """Left out like DROP, and never deleted from a base by a whiteout: an engine makes it again for each container."""
    XATTR = "xattr"
    """An extended attribute left out of every entry."""


@dataclass(frozen=True)
class Rule:
    """`pattern` is a path without its leading "/"; `*` stands for any part of one name, `/**` for everything below."""

    pattern: str
    action: Action
    reason: str
    mode: int | None = None
    target: bytes | None = None
    """If set, the row is about a symlink with this target alone."""


_MOUNT = "a mount point: the engine fills it when a container starts"
_EMPTIED = "starts empty in every container"
_CACHE = "a cache that its program makes again; its bytes change from run to run"
_LOCK = "a lock file: its program makes it again"
_LOG = "a log of the build, with times in it; the build record keeps the log"
_BACKUP = "the state before the last change, kept by its tool; depends on the order of changes"
_IDENTITY = "must differ between machines: one in an image would be shared by all its containers"

RULES: tuple[Rule, ...] = (
    Rule(".dockerenv", Action.ENGINE, "written by the engine into each container"),
    Rule("etc/hostname", Action.ENGINE, "written by the engine into each container"),
    Rule("etc/hosts", Action.ENGINE, "written by the engine into each container"),
    Rule("etc/resolv.conf", Action.ENGINE, "written by the engine into each container"),
    Rule("etc/mtab", Action.ENGINE, "a link that the engine adds to each container", target=b"/proc/mounts"),
    Rule("dev/console", Action.ENGINE, _MOUNT),
    Rule("dev/pts", Action.ENGINE, _MOUNT),
    Rule("dev/shm", Action.ENGINE, _MOUNT),
    Rule("dev", Action.CONTENTS, _MOUNT, mode=0o755),
    Rule("proc", Action.CONTENTS, _MOUNT, mode=0o555),
    Rule("sys", Action.CONTENTS, _MOUNT, mode=0o555),
    Rule("run", Action.CONTENTS, _EMPTIED, mode=0o755),
    Rule("tmp", Action.CONTENTS, _EMPTIED, mode=0o1777),
    Rule("var/tmp", Action.CONTENTS, _EMPTIED, mode=0o1777),
    Rule("var/cache/apt/*.bin", Action.DROP, _CACHE),
    Rule("var/cache/apt/archives/*.deb", Action.DROP, "packages are named by the lock, not kept in the image"),
    Rule("var/cache/apt/archives/partial/**", Action.DROP, "half-loaded packages"),
    Rule("var/cache/apt/archives/lock", Action.DROP, _LOCK),
    Rule("var/lib/apt/lists/**", Action.DROP, "package indexes of the day; the lock says what was installed"),
    Rule("var/lib/apt/periodic/**", Action.DROP, _CACHE),
    Rule("var/cache/ldconfig/aux-cache", Action.DROP, _CACHE),
    Rule("var/cache/debconf/*-old", Action.DROP, _BACKUP),
    Rule("var/cache/fontconfig/**", Action.DROP, _CACHE),
    Rule("var/cache/man/**", Action.DROP, _CACHE),
    Rule("var/lib/dpkg/*-old", Action.DROP, _BACKUP),
    Rule("var/lib/dpkg/lock", Action.DROP, _LOCK),
    Rule("var/lib/dpkg/lock-frontend", Action.DROP, _LOCK),
    Rule("etc/passwd-", Action.DROP, _BACKUP),
    Rule("etc/group-", Action.DROP, _BACKUP),
    Rule("etc/shadow-", Action.DROP, _BACKUP),
    Rule("etc/gshadow-", Action.DROP, _BACKUP),
    Rule("etc/subuid-", Action.DROP, _BACKUP),
    Rule("etc/subgid-", Action.DROP, _BACKUP),
    Rule("var/log/apt/**", Action.DROP, _LOG),
    Rule("var/log/dpkg.log", Action.DROP, _LOG),
    Rule("var/log/alternatives.log", Action.DROP, _LOG),
    Rule("var/log/bootstrap.log", Action.DROP, _LOG),
    Rule("var/log/fontconfig.log", Action.DROP, _LOG),
    Rule("var/log/**", Action.EMPTY, _LOG),
    Rule("etc/machine-id", Action.EMPTY, _IDENTITY),
    Rule("var/lib/dbus/machine-id", Action.EMPTY, _IDENTITY),
    Rule("var/lib/systemd/random-seed", Action.DROP, _IDENTITY),
    Rule("etc/ssh/ssh_host_*", Action.DROP, _IDENTITY),
    Rule("security.selinux", Action.XATTR, "the label of the build machine's policy"),
    Rule("trusted.overlay.*", Action.XATTR, "the book-keeping of the build machine's overlay file system"),
)
"""The first row that fits a path decides."""


@dataclass(frozen=True)
class Settled:
    """Something about every tree that is said in one way, however an archive says it."""

    what: str
    form: str
    reason: str


SETTLED: tuple[Settled, ...] = (
    Settled(
        "order of the entries",
        "by path, component by component, as bytes; a directory before what is in it",
        "a file system gives names in any order, and archivers keep that order",
    ),
    Settled("modification times", "one constant for all, from the lock", "they are those of the build's clock"),
    Settled("access and change times", "left out", "they change with every look at a file"),
    Settled("names of owners", "left out; the numbers stay", "they come from the accounts of whoever packs"),
    Settled(
        "header dialect, PAX records not named here, padding",
        "ustar; PAX for what ustar cannot say; two zero blocks at the end",
        "each archiver has its own",
    ),
    Settled(
        "the name of a file with several",
        "the first in order is the file, the others are hard links to it",
        "which one an archiver meets first is chance",
    ),
    Settled(
        "attributes of a hard link",
        "those of its file, repeated",
        "archivers differ, and an engine that sets the owner of a name takes capabilities from its file",
    ),
    Settled("holes in files", "written in full, as zeros", "where holes lie depends on the file system"),
    Settled("mode of a symlink", "0777", "it means nothing, and archivers write different ones"),
    Settled("the root directory", "no entry", "it belongs to whoever unpacks"),
    Settled("directories that an archive leaves out", "0755, owned by root", "engines make them so"),
    Settled(
        "extended attributes with an empty value",
        "left out",
        "for POSIX an empty PAX value is none, and engines lose them",
    ),
)


def path_regex(pattern: str) -> str:
    """The regular expression of a pattern in this table's language."""
    below = pattern.endswith("/**")
    parts = [re.escape(part).replace(r"\*", "[^/]*") for part in pattern.removesuffix("/**").split("/")]
    return "/".join(parts) + ("/.+" if below else "")


def _rule_regex(rule: Rule) -> str:
    return path_regex(rule.pattern) + ("(?:/.+)?" if rule.action in (Action.CONTENTS, Action.ENGINE) else "")


_PATH_RULES = tuple(rule for rule in RULES if rule.action is not Action.XATTR)
_PATHS = re.compile("|".join(f"({_rule_regex(rule)})" for rule in _PATH_RULES).encode("ascii"), re.DOTALL)
_XATTRS = re.compile(
    "|".join(path_regex(r.pattern) for r in RULES if r.action is Action.XATTR).encode("ascii"), re.DOTALL
)


def rule_for(entry: Entry) -> Rule | None:
    """The row of the table that decides about an entry, if there is one."""
    found = _PATHS.fullmatch(entry.path)
    if found is None or found.lastindex is None:
        return None
    rule = _PATH_RULES[found.lastindex - 1]
    if rule.target is not None and not (entry.type is EntryType.SYMLINK and entry.target == rule.target):
        return None
    return rule


def is_engine_path(path: bytes) -> bool:
    """Whether an engine makes this path for each container, so that no image need hold or delete it."""
    found = _PATHS.fullmatch(path)
    return bool(found and found.lastindex and _PATH_RULES[found.lastindex - 1].action is Action.ENGINE)


def keep_xattr(name: bytes) -> bool:
    return _XATTRS.fullmatch(name) is None
