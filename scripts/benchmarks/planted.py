"""Changes to plant in a container, one of each kind that a comparison has to name, and where and as what each shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Planted:
    """`statement` is Python for inside the container; `shows` has the kinds of difference of each path it changes."""

    name: str
    shows: dict[str, str]
    statement: str


_HERE = "srv/bench"

_BEFORE = f"""
import os, shutil, stat
os.makedirs("/{_HERE}", exist_ok=True)
os.chdir("/{_HERE}")

def write(path, data):
    with open(path, "wb") as out:
        out.write(data)
"""

GOLDEN = (
    _BEFORE
    + """
names = ("removed content quiet emptied mode setuid owner group to-symlink to-directory linked-one xattr capability "
         "moved").split()
for name in names:
    write(name, name.encode() * 100)
for name in ("gone", "to-file", "sgid"):
    os.mkdir(name)
for name in ("gone/file", "to-file/inside"):
    write(name, name.encode())
os.symlink("content", "symlink")
os.link("linked-one", "linked-two")
os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
"""
)

PLANTED = (
    Planted("a file", {"added": "added"}, "write('added', b'new')"),
    Planted(
        "a directory with a file",
        {"new": "added", "new/file": "added"},
        "os.mkdir('new'); write('new/file', b'in a directory')",
    ),
    Planted("a file gone", {"removed": "removed"}, "os.remove('removed')"),
    Planted("a directory gone", {"gone": "removed", "gone/file": "removed"}, "shutil.rmtree('gone')"),
    Planted("other content", {"content": "content"}, "write('content', b'other')"),
    Planted(
        "other content, same size and time",
        {"quiet": "content"},
        "was = os.stat('quiet').st_mtime_ns; write('quiet', b'QUIET' * 100); os.utime('quiet', ns=(was, was))",
    ),
    Planted("an emptied file", {"emptied": "content"}, "write('emptied', b'')"),
    Planted("other mode", {"mode": "mode"}, "os.chmod('mode', 0o600)"),
    Planted("set-uid", {"setuid": "mode"}, "os.chmod('setuid', 0o4755)"),
    Planted("set-gid on a directory", {"sgid": "mode"}, "os.chmod('sgid', 0o2755)"),
    Planted("other owner", {"owner": "owner"}, "os.chown('owner', 1000, -1)"),
    Planted("other group", {"group": "owner"}, "os.chown('group', -1, 1000)"),
    Planted("a symlink led elsewhere", {"symlink": "link"}, "os.remove('symlink'); os.symlink('/tmp/evil', 'symlink')"),
    Planted(
        "a symlink for a file", {"to-symlink": "type"}, "os.remove('to-symlink'); os.symlink('mode', 'to-symlink')"
    ),
    Planted(
        "a directory for a file",
        {"to-directory": "type", "to-directory/inside": "added"},
        "os.remove('to-directory'); os.mkdir('to-directory'); write('to-directory/inside', b'in its place')",
    ),
    Planted(
        "a file for a directory",
        {"to-file": "type", "to-file/inside": "removed"},
        "shutil.rmtree('to-file'); write('to-file', b'file now')",
    ),
    Planted(
        "a hard link that became a file",
        {"linked-two": "link"},
        "os.remove('linked-two'); write('linked-two', b'linked-one' * 100)",
    ),
    Planted("a hard link more", {"linked-more": "added"}, "os.link('group', 'linked-more')"),
    Planted("an extended attribute", {"xattr": "xattr"}, "os.setxattr('xattr', 'user.note', b'x')"),
    Planted(
        "a capability",
        {"capability": "capability"},
        "os.setxattr('capability', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))",
    ),
    Planted(
        "another device",
        {"device": "device"},
        "os.remove('device'); os.mknod('device', 0o600 | stat.S_IFCHR, os.makedev(1, 5))",
    ),
    Planted("a device", {"new-device": "added"}, "os.mknod('new-device', 0o600 | stat.S_IFBLK, os.makedev(8, 0))"),
    Planted("a FIFO", {"fifo": "added"}, "os.mkfifo('fifo')"),
    Planted("a moved file", {"moved-here": "moved"}, "os.rename('moved', 'moved-here')"),
    Planted("a name that is not ASCII", {"ünïcödé": "added"}, "write('ünïcödé', b'name')"),
    Planted("a line feed in a name", {"new\nline": "added"}, "write('new\\nline', b'name')"),
    Planted("a file among those of the base", {"/usr/lib/planted.so": "added"}, "write('/usr/lib/planted.so', b'lib')"),
    Planted("a hidden file", {"/usr/share/.planted": "added"}, "write('/usr/share/.planted', b'hidden')"),
    Planted("a file of the base", {"/etc/debian_version": "content"}, "write('/etc/debian_version', b'changed\\n')"),
)

PLANT = _BEFORE + "\n".join(one.statement for one in PLANTED) + "\n"


def shown_at(planted: Planted) -> dict[str, str]:
    """The paths from the root, without the first slash."""
    return {path.lstrip("/") if path[0] == "/" else f"{_HERE}/{path}": kind for path, kind in planted.shows.items()}
