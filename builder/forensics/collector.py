#!/usr/bin/env python3
"""Takes the inventory of a directory or mounted root file system, wherever there is Linux and Python 3.6 or later.

    python3 collector.py /proc/PID/root > subject.jsonl

This file needs nothing but Python's standard library and changes nothing on the host. It follows no symbolic link, and
crosses no mount point, below the directory it is given. Run it as root, for it has to read every file. What it writes
is the inventory format of Goldsmith, without compression or with gzip's; `goldsmith compare` reads it.
"""

# Nothing newer than the oldest Python that a host may have: annotations are strings, and nobody looks at them there.

import argparse
import base64
import contextlib
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from typing import BinaryIO, Iterator, NamedTuple  # noqa: UP035

FORMAT = "goldsmith-inventory/v1"
_CHUNK = 1024 * 1024
LARGEST_FILE = 64 * 1024**3
LONGEST_PATH = 4096
DEEPEST = 512
NOTED_PATHS = 10
SOCKETS = "sockets, which no archive and no image holds"

_TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character", stat.S_IFBLK: "block", stat.S_IFIFO: "fifo",
}  # fmt: skip
_PROCESS_ROOT = re.compile(rb"/proc/(self|[0-9]+)/root(/.*)?")
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Found(NamedTuple):
    """One path, as docs/formats/inventory.md has it. A file that could not be read has no `sha256`."""

    path: "bytes"
    type: "str"
    mode: "int"
    uid: "int"
    gid: "int"
    size: "int"
    sha256: "str | None"
    target: "bytes | None"
    device: "tuple[int, int] | None"
    xattrs: "tuple[tuple[bytes, bytes], ...]"


class Notes:
    """What could not be looked at: for each reason how many paths, and the first of them."""

    def __init__(self) -> "None":
        self._paths: dict[str, list[bytes]] = {}
        self._counts: dict[str, int] = {}

    def add(self, reason: "str", path: "bytes") -> "None":
        paths = self._paths.setdefault(reason, [])
        if len(paths) < NOTED_PATHS:
            paths.append(path)
        self._counts[reason] = self._counts.get(reason, 0) + 1

    def told(self) -> "list[str]":
        more = {reason: self._counts[reason] - len(paths) for reason, paths in self._paths.items()}
        return [
            f"{reason}: {', '.join(map(shown, paths))}" + (f" and {more[reason]} more" if more[reason] else "")
            for reason, paths in self._paths.items()
        ]


class Directory:
    """The tree below a directory, which `fd` holds. `mounts` are the outermost mount points below it, path and type.

    A context manager. Without `contents` no file is opened. Raises OSError: no such directory, or no /proc.
    """

    def __init__(self, root: "str", contents: "bool" = True) -> "None":
        self.root = root
        self._contents = contents
        self.notes = Notes()
        # By device and inode: how many more names of it there are, and the first.
        self._first_names: dict[tuple[int, int], tuple[int, Found]] = {}
        self.fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
        try:
            self.mount = mount_id(self.fd)
            self.mounts = _mounts_below(root, self.fd)
            self._listed = {path for path, _ in self.mounts}
        except BaseException:
            os.close(self.fd)
            raise

    def __enter__(self) -> "Directory":
        return self

    def __exit__(self, *_: "object") -> "None":
        os.close(self.fd)

    @property
    def unproven(self) -> "list[str]":
        return [f"what is mounted at {shown(path)} ({kind})" for path, kind in self.mounts] + self.notes.told()

    def entries(self) -> "Iterator[Found]":
        """Every path in canonical order: a directory, then what is in it, names sorted as bytes.

        Each name is opened once without following it, and all that is told of it is asked of that: whatever takes the
        name's place meanwhile is not looked at.
        """
        levels = [(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd), b"")]
        pending = [self._names(levels[0][0], b"")]
        try:
            while levels:
                above, prefix = levels[-1]
                if not pending[-1]:
                    os.close(levels.pop()[0])
                    pending.pop()
                    continue
                name = pending[-1].pop()
                with self._opened(above, name, prefix + name) as (fd, status):
                    if status is None:
                        continue
                    found = self._found(fd, status, prefix + name)
                    if found is None:
                        continue
                    yield found
                    if found.type == "directory":
                        inside = self._inside(fd, found.path, len(levels))
                        if inside is not None:
                            levels.append((inside, found.path + b"/"))
                            pending.append(self._names(inside, found.path))
        finally:
            for fd, _ in levels:
                os.close(fd)

    def _names(self, fd: "int", path: "bytes") -> "list[bytes]":
        """The names in a directory, last first."""
        try:
            return sorted(map(os.fsencode, os.listdir(fd)), reverse=True)  # noqa: PTH208 - of a descriptor
        except OSError as error:
            self.notes.add(f"directories that cannot be listed ({error.strerror})", path)
            return []

    @contextlib.contextmanager
    def _opened(self, above: "int", name: "bytes", path: "bytes") -> "Iterator[tuple[int, os.stat_result | None]]":
        if len(path) > LONGEST_PATH:
            self.notes.add(f"paths of more than {LONGEST_PATH} bytes", path)
            yield -1, None
            return
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=above)
        except OSError as error:
            gone = error.errno == errno.ENOENT
            self.notes.add("vanished while it was read" if gone else f"cannot be opened ({error.strerror})", path)
            yield -1, None
            return
        try:
            if mount_id(fd) == self.mount:
                yield fd, os.fstat(fd)
                return
            if path not in self._listed:
                self.notes.add("mounted there, and not looked at", path)
            yield fd, None
        finally:
            os.close(fd)

    def _found(self, fd: "int", status: "os.stat_result", path: "bytes") -> "Found | None":
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self.notes.add(SOCKETS, path)
            return None
        inode = (status.st_dev, status.st_ino)
        if inode in self._first_names:
            left, first = self._first_names.pop(inode)
            if left > 1:
                self._first_names[inode] = (left - 1, first)
            return first._replace(path=path, type="hardlink", target=first.path)
        size, digest, target = 0, None, None
        if kind == "file" and self._contents:
            size, digest = self._hashed(fd, status, path)
        elif kind == "symlink":
            target = os.readlink(b"", dir_fd=fd)
        found = Found(
            path=path, type=kind, uid=status.st_uid, gid=status.st_gid, size=size, sha256=digest, target=target,
            # The mode of a symlink means nothing.
            mode=0o777 if kind == "symlink" else stat.S_IMODE(status.st_mode),
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("character", "block") else None,
            xattrs=self._xattrs(fd, path),
        )  # fmt: skip
        if kind != "directory" and status.st_nlink > 1:
            self._first_names[inode] = (status.st_nlink - 1, found)
        return found

    def _hashed(self, fd: "int", status: "os.stat_result", path: "bytes") -> "tuple[int, str | None]":
        if status.st_size > LARGEST_FILE:
            self.notes.add(f"files of more than {LARGEST_FILE} bytes, whose content was not read", path)
            return 0, None
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in read_file(fd, status.st_size + 1):
                digest.update(chunk)
                size += len(chunk)
            after = os.fstat(fd)
        except OSError as error:
            self.notes.add(f"files whose content cannot be read ({error.strerror})", path)
            return 0, None
        if (size, after.st_mtime_ns, after.st_ctime_ns) != (status.st_size, status.st_mtime_ns, status.st_ctime_ns):
            self.notes.add("changed while it was read", path)
        return size, digest.hexdigest()

    def _xattrs(self, fd: "int", path: "bytes") -> "tuple[tuple[bytes, bytes], ...]":
        """Sorted by name; those with an empty value are none, as in archives."""
        opened = f"/proc/self/fd/{fd}"
        found = {}
        try:
            for name in os.listxattr(opened):
                try:
                    value = os.getxattr(opened, name)
                except OSError as error:
                    # One that went while it was looked at must not hide those that come after it.
                    self.notes.add(f"extended attributes that cannot be read ({error.strerror})", path)
                    continue
                if value:
                    # A name that the format cannot hold is told in another form: it is strange in any.
                    found[os.fsencode(name).decode("ascii", "backslashreplace").encode("ascii")] = value
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENODATA):
                self.notes.add(f"extended attributes that cannot be read ({error.strerror})", path)
        return tuple(sorted(found.items()))

    def _inside(self, fd: "int", path: "bytes", depth: "int") -> "int | None":
        if depth >= DEEPEST:
            self.notes.add(f"directories more than {DEEPEST} deep, not looked into", path)
            return None
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        except OSError as error:
            self.notes.add(f"directories that cannot be listed ({error.strerror})", path)
            return None


def shown(path: "bytes") -> "str":
    """A path for people: absolute, with all that a terminal might act on written out."""
    text = path[:200].decode("utf-8", "backslashreplace")
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return "/" + safe + ("…" if len(path) > 200 else "")


def read_file(fd: "int", most: "int") -> "Iterator[bytes]":
    """At most so many bytes of the file behind an O_PATH descriptor."""
    opened = f"/proc/self/fd/{fd}"
    try:
        # To look leaves no trace in the access times, where that is allowed.
        file = os.open(opened, os.O_RDONLY | os.O_NOATIME)
    except PermissionError:
        file = os.open(opened, os.O_RDONLY)
    try:
        while most:
            chunk = os.read(file, min(_CHUNK, most))
            if not chunk:
                return
            most -= len(chunk)
            yield chunk
    finally:
        os.close(file)


def mount_id(fd: "int") -> "bytes":
    """Which mount a descriptor is on; another mount of the same file system has another number."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY)
    try:
        found = re.search(rb"^mnt_id:\s*(\d+)", os.read(info, 4096), re.MULTILINE)
    finally:
        os.close(info)
    # A kernel that does not tell it tells at least the file system.
    return found.group(1) if found else b"%d" % os.fstat(fd).st_dev


def _mounts_below(root: "str", fd: "int") -> "list[tuple[bytes, str]]":
    """The outermost mount points below a directory and their types, as the kernel lists them."""
    process = _PROCESS_ROOT.fullmatch(os.path.normpath(os.fsencode(root)))
    if process:
        table, base = b"/proc/%s/mountinfo" % process.group(1), process.group(2) or b"/"
    else:
        table, base = b"/proc/self/mountinfo", os.readlink(b"/proc/self/fd/%d" % fd)  # noqa: PTH115
    above = base.rstrip(b"/") + b"/"
    found: dict[bytes, str] = {}
    with open(table, "rb") as lines:  # noqa: PTH123
        for line in lines:
            fields = line.split(b" ")
            point = _OCTAL.sub(lambda octal: bytes([int(octal.group(1), 8)]), fields[4])
            if point.startswith(above) and point != above:
                found[point[len(above) :]] = fields[fields.index(b"-") + 1].decode("ascii", "backslashreplace")
    outermost: list[tuple[bytes, str]] = []
    for path in sorted(found, key=lambda path: path.replace(b"/", b"\0")):
        if not (outermost and path.startswith(outermost[-1][0] + b"/")):
            outermost.append((path, found[path]))
    return outermost[:1000]  # any more are noted where the walk meets them


def line_of(found: "Found") -> "bytes":
    """The line of a path, in the canonical form of JSON (RFC 8785), without its line end."""
    fields: dict[str, object] = {
        "type": found.type,
        "mode": f"{found.mode:04o}",
        "uid": found.uid,
        "gid": found.gid,
    }
    for key, name in (("path", found.path), ("target", found.target)):
        if name is not None:
            try:
                fields[key] = name.decode("utf-8")
            except UnicodeDecodeError:
                fields[f"{key}_base64"] = base64.b64encode(name).decode("ascii")
    if found.sha256 is not None:
        fields.update(sha256=found.sha256, size=found.size)
    if found.device is not None:
        fields["device"] = found.device
    if found.xattrs:
        fields["xattrs"] = {name.decode("ascii"): base64.b64encode(v).decode("ascii") for name, v in found.xattrs}
    return _json(fields)


def _json(value: "object") -> "bytes":
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


class _Merkle:
    """The tree hash of RFC 6962, section 2.1, over leaves as they come."""

    def __init__(self) -> "None":
        self._full: list[tuple[int, bytes]] = []

    def add(self, leaf: "bytes") -> "None":
        size, node = 1, hashlib.sha256(b"\0" + leaf).digest()
        while self._full and self._full[-1][0] == size:
            node = hashlib.sha256(b"\1" + self._full.pop()[1] + node).digest()
            size *= 2
        self._full.append((size, node))

    def root(self) -> "str":
        if not self._full:
            return "sha256:" + hashlib.sha256(b"").hexdigest()
        node = self._full[-1][1]
        for _, left in reversed(self._full[:-1]):
            node = hashlib.sha256(b"\1" + left + node).digest()
        return "sha256:" + node.hex()


def write(directory: "Directory", out: "BinaryIO | gzip.GzipFile") -> "None":
    """The inventory of a directory. Its lines wait in a file without a name, for the header stands before them."""
    tree, count = _Merkle(), 0
    with tempfile.TemporaryFile() as lines:
        for found in directory.entries():
            line = line_of(found)
            tree.add(line)
            lines.write(line + b"\n")
            count += 1
        subject = {
            "kind": "directory",
            "name": os.fsencode(directory.root).decode("utf-8", "backslashreplace"),
            "unproven": directory.unproven,
            "unseen": [shown(path) for path, _ in directory.mounts],
        }
        out.write(_json({"entries": count, "format": FORMAT, "root": tree.root(), "subject": subject}) + b"\n")
        lines.seek(0)
        shutil.copyfileobj(lines, out, _CHUNK)


def main() -> "int":
    described = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(description=described[0], epilog=described[2])
    parser.add_argument("directory", help="such as /proc/PID/root")
    parser.add_argument("--gzip", action="store_true", help="compress what is written to standard output")
    given = parser.parse_args()
    try:
        with Directory(given.directory) as directory:
            if given.gzip:
                with gzip.GzipFile(filename="", mode="wb", fileobj=sys.stdout.buffer, mtime=0) as out:
                    write(directory, out)
            else:
                write(directory, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            for reason in directory.unproven:
                sys.stderr.write(f"not looked at: {reason}\n".encode("ascii", "backslashreplace").decode("ascii"))
    except OSError as error:
        sys.stderr.write(f"collector: {error}\n".encode("ascii", "backslashreplace").decode("ascii"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
