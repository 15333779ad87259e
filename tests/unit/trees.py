"""Trees, and archives of them as others write them. Nothing here is shared with the encoder under test."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from builder.image.entry import Entry, EntryType, canonical_key

BLOCK = 512
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
_KINDS = {
    EntryType.FILE: b"0", EntryType.SYMLINK: b"2", EntryType.CHARACTER: b"3", EntryType.BLOCK: b"4",
    EntryType.DIRECTORY: b"5", EntryType.FIFO: b"6",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One inode and all its names. `entry` has its attributes, without a path; `data` is a file's content."""

    names: tuple[bytes, ...]
    entry: Entry
    data: bytes = b""


Tree = tuple[Node, ...]


def entries_of(tree: Tree) -> tuple[Entry, ...]:
    """What a tree looks like to whoever walks it: sorted, and of the names of one inode the first is the file."""
    found = []
    for node in tree:
        first, *others = sorted(node.names, key=canonical_key)
        entry = replace(node.entry, path=first)
        if entry.type is EntryType.FILE:
            entry = replace(entry, size=len(node.data), sha256=hashlib.sha256(node.data).hexdigest())
        found.append(entry)
        found += [replace(entry, path=name, type=EntryType.HARDLINK, target=first) for name in others]
    return tuple(sorted(found, key=lambda entry: canonical_key(entry.path)))


# Trees that a kernel would keep


_TAKEN_BY_THE_TABLE = {b"dev", b"proc", b"sys", b"run", b"tmp", b"etc", b"var", b".dockerenv"}
_COMPONENT = st.one_of(
    st.sampled_from([b"a", b"b", b"a.b", b"a-b", b"\xc3\xa4", b"\xef", b"with space", b"new\nline"]),
    st.binary(min_size=1, max_size=12),
    st.integers(90, 255).map(lambda length: b"long-" + b"x" * (length - 5)),
).filter(
    lambda name: (
        not (b"/" in name or b"\0" in name or name in (b".", b"..") or name.startswith(b".wh."))
        and name not in _TAKEN_BY_THE_TABLE
    )
)
_OWNER = st.sampled_from([0, 0, 1, 1000, 65534, 0o7777777, 0o10000000, 2**32 - 2])
_DATA = st.one_of(
    st.binary(max_size=40),
    # With holes: blocks of zeros between blocks that are none, and often more than one header's map can list.
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=6).map(
        lambda parts: b"".join(bytes(holes * BLOCK) + b"data" * (blocks * BLOCK // 4) for holes, blocks in parts)
    ),
    st.integers(4, 60).map(lambda count: (bytes(BLOCK) + b"data" * (BLOCK // 4)) * count + bytes(700)),
    st.integers(1, 9000).map(bytes),
)
_VALUE = st.binary(min_size=1, max_size=60)
_TRUSTED = st.dictionaries(st.sampled_from([b"trusted.a", b"trusted.b.c"]), _VALUE, max_size=2)
_USER = st.dictionaries(st.sampled_from([b"user.a", b"user.\x7f\x01", b"user.long" + b"g" * 100]), _VALUE, max_size=2)
_CAPABILITIES = st.sampled_from([{}, {b"security.capability": CAPABILITY}])
_MODE = st.sampled_from([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o600, 0o000, 0o7777])


def _xattrs(*drawn: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(sorted(pair for some in drawn for pair in some.items()))


def _entry(kind: EntryType, mode: int, uid: int, gid: int, **rest: object) -> Entry:
    return Entry(b"", kind, mode, uid, gid, **rest)  # type: ignore[arg-type]


_DIRECTORY = st.builds(
    _entry, st.just(EntryType.DIRECTORY), _MODE, _OWNER, _OWNER, xattrs=st.builds(_xattrs, _TRUSTED, _USER)
)
_LEAF = st.one_of(
    st.tuples(
        st.builds(
            _entry, st.just(EntryType.FILE), _MODE, _OWNER, _OWNER,
            xattrs=st.builds(_xattrs, _TRUSTED, _USER, _CAPABILITIES),
        ),
        _DATA,
    ),
    st.tuples(
        st.builds(
            _entry, st.just(EntryType.SYMLINK), st.just(0o777), _OWNER, _OWNER, xattrs=st.builds(_xattrs, _TRUSTED),
            target=st.lists(_COMPONENT, min_size=1, max_size=3).map(b"/".join),
        ),
        st.just(b""),
    ),
    st.tuples(
        st.builds(
            _entry, st.sampled_from([EntryType.CHARACTER, EntryType.BLOCK]), _MODE, _OWNER, _OWNER,
            device=st.tuples(st.sampled_from([1, 8, 4095]), st.sampled_from([0, 3, 1048575])),
        ),
        st.just(b""),
    ),
    st.tuples(st.builds(_entry, st.just(EntryType.FIFO), _MODE, _OWNER, _OWNER), st.just(b"")),
)  # fmt: skip


@st.composite
def trees(draw: st.DrawFn, most: int = 6) -> Tree:
    """Directories in each other, at most `most`; and at most as many other inodes, with one to three names each."""
    directories = [b""]
    taken: set[bytes] = set()

    def name() -> bytes:
        parent = draw(st.sampled_from(directories))
        path = draw(_COMPONENT.filter(lambda component: _below(parent, component) not in taken))
        taken.add(_below(parent, path))
        return _below(parent, path)

    tree = []
    for entry in draw(st.lists(_DIRECTORY, max_size=most)):
        directories.append(name())
        tree.append(Node((directories[-1],), entry))
    for entry, data in draw(st.lists(_LEAF, max_size=most)):
        names = tuple(name() for _ in range(draw(st.sampled_from([1, 1, 2, 3]))))
        tree.append(Node(names, entry, data))
    return tuple(tree)


@dataclass(frozen=True)
class Layer:
    """A layer over others: what it brings, which paths it removes, and which directories it hides the insides of."""

    tree: Tree
    removed: frozenset[bytes]
    opaque: frozenset[bytes]

    def stored(self) -> Tree:
        """With the files that say what is removed (image-spec, layer.md, "Whiteouts")."""
        split = [path.rpartition(b"/") for path in self.removed]
        marks = [directory + slash + b".wh." + name for directory, slash, name in split]
        marks += [_below(path, b".wh..wh..opq") for path in self.opaque]
        return self.tree + tuple(Node((mark,), Entry(b"", EntryType.FILE, 0, 0, 0)) for mark in sorted(marks))

    def over(self, lower: Tree) -> Tree:
        """The tree that a container sees."""
        own = {name: node.entry.type for node in self.tree for name in node.names}
        hiding = self.removed | self.opaque | {name for name, kind in own.items() if kind is not EntryType.DIRECTORY}

        def stays(name: bytes) -> bool:
            above = name.split(b"/")[:-1]
            inside = any(b"/".join(above[:depth]) in hiding for depth in range(len(above) + 1))
            return not (name in own or name in self.removed or inside)

        kept = [replace(node, names=tuple(filter(stays, node.names))) for node in lower]
        return tuple(node for node in kept if node.names) + self.tree


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Tree, Layer]:
    """A tree and a layer over it, which often speak of the same names."""
    lower, upper = draw(trees()), draw(trees())
    directories = [b"", *(n for node in upper if node.entry.type is EntryType.DIRECTORY for n in node.names)]
    known = [name for node in lower for name in node.names]
    near = [name for name in known if os.path.dirname(name) in directories]  # noqa: PTH120
    own = {name for node in upper for name in node.names}
    removed = draw(st.frozensets(st.sampled_from(near), max_size=4)) if near else frozenset()
    opaque = draw(st.frozensets(st.sampled_from(directories), max_size=2))
    return lower, Layer(upper, removed - own, opaque)


def _below(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


# Archives


@dataclass(frozen=True)
class Dialect:
    """How an archiver writes. `sparse` is how it writes holes: not at all, `gnu`, or a version of GNU's PAX form."""

    form: str = "pax"
    sparse: str | None = None
    prefix: bytes = b"./"


DIALECTS = st.builds(
    Dialect,
    st.sampled_from(["pax", "gnu", "ustar"]),
    st.sampled_from([None, "gnu", "0.0", "0.1", "1.0"]),
    st.sampled_from([b"", b"./", b"/"]),
)


def archive_of(tree: Tree, dialect: Dialect, choose: random.Random, *, shuffled: bool = True) -> bytes:
    """A tar of the tree. `choose` decides what an archiver is free in: order, times, names of owners, the way of links.

    Shuffled, a hard link may stand before its file, a directory after what is in it, and links may leave out the
    extended attributes of their file: engines bear none of this.
    """
    members = []
    for node in sorted(tree, key=lambda node: canonical_key(node.names[0])):
        names = choose.sample(node.names, len(node.names))
        members.append(_member(names[0], node.entry, node.data, dialect, choose))
        for number, name in enumerate(names[1:], 1):
            xattrs = () if shuffled and choose.choice([True, False]) else node.entry.xattrs
            target = dialect.prefix + choose.choice(names[:number])
            link = replace(node.entry, type=EntryType.HARDLINK, target=target, xattrs=xattrs)
            members.append(_member(name, link, b"", dialect, choose))
    if shuffled:
        choose.shuffle(members)
    return b"".join(members) + bytes(BLOCK * choose.choice([2, 20]))


def _member(path: bytes, entry: Entry, data: bytes, dialect: Dialect, choose: random.Random) -> bytes:
    kind = _KINDS.get(entry.type, b"1")
    name = dialect.prefix + path + (b"/" if entry.type is EntryType.DIRECTORY else b"")
    target = entry.target or b""
    mode = choose.choice([0o777, 0o755]) if entry.type is EntryType.SYMLINK else entry.mode
    pax: list[tuple[bytes, bytes]] = []
    before, prefix, sparse, map_blocks = b"", b"", b"", b""
    size = len(data)

    if dialect.sparse and entry.type is EntryType.FILE and (parts := data_parts(data)) != [(0, len(data))]:
        if len(parts) > 1 and not parts[-1][1] and choose.choice([True, False]):
            parts.pop()
        data = b"".join(data[at : at + length] for at, length in parts)
        if dialect.sparse == "gnu":
            kind, (sparse, map_blocks) = b"S", _gnu_map(parts, size)
        elif dialect.sparse == "1.0":
            text = b"\n".join(b"%d" % number for number in (len(parts), *(n for part in parts for n in part))) + b"\n"
            data = text + bytes(-len(text) % BLOCK) + data
            pax += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name)]
            pax.append((b"GNU.sparse.realsize", b"%d" % size))
            name = dialect.prefix + b"GNUSparseFile.0/" + path[-20:]
        else:
            pax += [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(parts))]
            if dialect.sparse == "0.1":
                pax += [(b"GNU.sparse.name", name), (b"GNU.sparse.map", b",".join(b"%d,%d" % part for part in parts))]
                name = dialect.prefix + b"GNUSparseFile.0/" + path[-20:]
            else:
                for at, length in parts:
                    pax += [(b"GNU.sparse.offset", b"%d" % at), (b"GNU.sparse.numbytes", b"%d" % length)]

    if dialect.form == "gnu":
        for flag, text in ((b"L", name), (b"K", target)):
            if len(text) > 100:
                body = text + b"\0"
                header = _header(b"././@LongLink", flag, size=len(body), magic=b"ustar  \0")
                before += header + body + bytes(-len(body) % BLOCK)
    else:
        if dialect.form == "ustar" and len(name) > 100 and not sparse:
            cut = name[:156].rfind(b"/", 1, -1)
            if cut > 0 and len(name) - cut - 1 <= 100:
                prefix, name = name[:cut], name[cut + 1 :]
        if len(name) > 100 or (dialect.form == "pax" and not name.isascii()):
            pax += [(b"path", name)]
        if len(target) > 100:
            pax += [(b"linkpath", target)]
        pax += [(key, b"%d" % number) for key, number in ((b"uid", entry.uid), (b"gid", entry.gid)) if number >= 8**7]
    if dialect.form == "pax":
        pax += [(b"mtime", b"%d.%d" % (choose.randrange(2**33), choose.randrange(10**9))), (b"atime", b"1.5")]
    pax += [(b"SCHILY.xattr." + key, value) for key, value in entry.xattrs]
    if pax:
        body = b"".join(_record(key, value) for key, value in pax)
        before += _header(b"PaxHeaders.1/x", b"x", size=len(body)) + body + bytes(-len(body) % BLOCK)
    header = _header(
        name[:100], kind, mode=mode, uid=entry.uid, gid=entry.gid, size=len(data), mtime=choose.randrange(8**11),
        target=target[:100], device=entry.device or (0, 0), prefix=prefix, owner=choose.choice([b"", b"root", b"me"]),
        sparse=sparse, magic=b"ustar  \0" if dialect.form == "gnu" or kind == b"S" else b"ustar\x0000",
        binary=dialect.form == "gnu",
    )  # fmt: skip
    return before + header + map_blocks + data + bytes(-len(data) % BLOCK)


def data_parts(data: bytes) -> list[tuple[int, int]]:
    """(offset, length) of what is no hole; the end of the file is always one, as GNU tar has it."""
    parts: list[tuple[int, int]] = []
    for at in range(0, len(data), BLOCK):
        block = data[at : at + BLOCK]
        if any(block):
            if parts and sum(parts[-1]) == at:
                parts[-1] = (parts[-1][0], parts[-1][1] + len(block))
            else:
                parts.append((at, len(block)))
    if not parts or sum(parts[-1]) != len(data):
        parts.append((len(data), 0))
    return parts


def _gnu_map(parts: list[tuple[int, int]], size: int) -> tuple[bytes, bytes]:
    """The end of an old GNU header, from byte 345 on, and the blocks with the rest of the map."""
    fields = [b"%011o\0%011o\0" % part for part in parts]
    head = bytes(41) + b"".join(fields[:4]).ljust(96, b"\0") + (b"\1" if fields[4:] else b"\0") + b"%011o\0" % size
    rest = [fields[at : at + 21] for at in range(4, len(fields), 21)]
    blocks = [b"".join(some).ljust(504, b"\0") + bytes([number < len(rest)]) for number, some in enumerate(rest, 1)]
    return head, b"".join(block.ljust(BLOCK, b"\0") for block in blocks)


def _header(
    name: bytes,
    kind: bytes,
    *,
    size: int,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    owner: bytes = b"",
    sparse: bytes = b"",
    magic: bytes = b"ustar\x0000",
    binary: bool = False,
) -> bytes:
    def owned(number: int) -> bytes:
        if number < 8**7:
            return b"%07o\0" % number
        return b"\x80" + number.to_bytes(7, "big") if binary else b"%07o\0" % 0

    head = name.ljust(100, b"\0") + b"%07o\0" % mode + owned(uid) + owned(gid) + b"%011o\0%011o\0" % (size, mtime)
    tail = kind + target.ljust(100, b"\0") + magic + owner.ljust(32, b"\0") + owner.ljust(32, b"\0")
    tail += b"%07o\0%07o\0" % device
    tail = (tail + (sparse or prefix)).ljust(356, b"\0")
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * 32) + tail


def _record(keyword: bytes, value: bytes) -> bytes:
    rest = len(keyword) + len(value) + 3
    length = next(length for length in range(rest, rest + 9) if rest + len(b"%d" % length) == length)
    return b"%d %s=%s\n" % (length, keyword, value)
