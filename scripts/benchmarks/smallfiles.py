"""A tar archive of many small files, in the order and the dialect of an engine's export, written as fast as can be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import IO

_BLOCK = 512


def write_small_files(out: IO[bytes], entries: int) -> None:
    """The same bytes for the same number of entries: packages of ten directories with ten files each."""
    for member in islice(_members(), entries):
        out.write(member)
    out.write(bytes(2 * _BLOCK))


def _members() -> Iterator[bytes]:
    for directory in (b"usr/", b"usr/share/"):
        yield _header(directory, b"5")
    package = 0
    while True:
        top = b"usr/share/package-%06d/" % package
        yield _header(top, b"5")
        for part in range(10):
            yield _header(top + b"part-%d/" % part, b"5")
            for number in range(10):
                content = b"%d %d %d\n" % (package, part, number) * (1 + number)
                name = top + b"part-%d/file-%d.dat" % (part, number)
                yield _header(name, b"0", len(content)) + content + bytes(-len(content) % _BLOCK)
        package += 1


def _header(name: bytes, kind: bytes, size: int = 0) -> bytes:
    mode = b"0000755\0" if kind == b"5" else b"0000644\0"
    head = name.ljust(100, b"\0") + mode + b"0000000\0" * 2 + b"%011o\0%011o\0" % (size, 1_700_000_000)
    tail = (kind + bytes(100) + b"ustar\x0000").ljust(356, b"\0")
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * 32) + tail
