"""Archives that nobody sends in good faith, and `python -m tests.unit.hostile_archives NAME DIRECTORY` to read one."""

from __future__ import annotations

import itertools
import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from builder.errors import GoldsmithError
from builder.forensics import runs
from builder.forensics.sorting import in_canonical_order
from builder.image.tarstream import ChunkStream, Limits, read_hashed

CPU_SECONDS = 40
BLOCK = 512
END = bytes(2 * BLOCK)
TERABYTE = 2**40


def header(name: bytes, kind: bytes = b"0", *, size: int = 0, link: bytes = b"", tail: bytes = b"") -> bytes:
    stored = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + stored + b"00000000000\0"
    end = kind + link.ljust(100, b"\0") + (b"ustar  \0" if kind in b"SLK" else b"ustar\x0000") + bytes(80)
    end = (end + tail).ljust(356, b"\0")
    return head + b"%06o\0 " % (sum(head) + sum(end) + 8 * 32) + end


def file(name: bytes, data: bytes = b"") -> bytes:
    return header(name, size=len(data)) + padded(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    data = b""
    for keyword, value in records:
        rest = len(keyword) + len(value) + 3
        length = next(length for length in range(rest, rest + 9) if rest + len(b"%d" % length) == length)
        data += b"%d %s=%s\n" % (length, keyword, value)
    return header(b"pax", kind, size=len(data)) + padded(data)


def endless(data: bytes) -> Iterator[bytes]:
    return itertools.repeat(data * (1 + 65536 // len(data)))


def gnu_sparse(size: int, *, more: bool = False) -> bytes:
    numbers = b"%011o\0%011o\0" % (0, 0)
    real = b"\x80" + size.to_bytes(11, "big")
    return header(b"hole", b"S", tail=bytes(41) + numbers.ljust(96, b"\0") + (b"\1" if more else b"\0") + real)


def numbered(count: int, member: Callable[[int], bytes]) -> Iterator[bytes]:
    yield from (member(number) for number in range(count))
    yield END


HOSTILE: dict[str, Callable[[], Iterator[bytes]]] = {
    "climbs out": lambda: iter([file(b"../../etc/cron.d/x"), END]),
    "climbs out halfway": lambda: iter([file(b"a/../../x"), END]),
    "hard link climbs out": lambda: iter([header(b"a", b"1", link=b"../../etc/passwd"), END]),
    "hard link to the host": lambda: iter([header(b"a", b"1", link=b"/etc/passwd"), END]),
    "below a symlink": lambda: iter([header(b"d", b"2", link=b"/tmp"), file(b"d/x"), END]),
    "below a hard link": lambda: iter([file(b"a"), header(b"d", b"1", link=b"a"), file(b"d/x"), END]),
    "ten million entries": lambda: numbered(10_000_000, lambda number: header(b"%d" % number)),
    "a terabyte, sparse": lambda: iter([gnu_sparse(TERABYTE), END]),
    "a terabyte, sparse in PAX": lambda: iter(
        [
            pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"%d" % TERABYTE)),
            file(b"hole", b"0\n".ljust(BLOCK, b"\0")),
            END,
        ]
    ),
    "a terabyte of zeros": lambda: itertools.chain([header(b"zeros", size=TERABYTE)], endless(bytes(BLOCK))),
    "zeros without end": lambda: endless(bytes(BLOCK)),
    "zeros after a file": lambda: itertools.chain([header(b"zeros", size=2**28)], endless(bytes(BLOCK))),
    "a long name": lambda: iter([header(b"././@LongLink", b"L", size=300) + padded(b"x" * 300), file(b"x"), END]),
    "a long path": lambda: iter([pax((b"path", b"x/" * 3000)), file(b"x"), END]),
    "a long link": lambda: iter([pax((b"linkpath", b"x/" * 3000)), header(b"x", b"2", link=b"x"), END]),
    "a file twice": lambda: iter([file(b"a", b"good"), file(b"a", b"evil"), END]),
    "PAX headers without end": lambda: endless(pax((b"SCHILY.xattr.user.x", b"y" * 900))),
    "global headers without end": lambda: endless(pax((b"comment", b"y" * 900), kind=b"g")),
    "GNU names without end": lambda: endless(header(b"././@LongLink", b"L", size=300) + padded(b"x" * 300)),
    "many global records": lambda: iter([pax(*[(b"comment", b"%d" % n) for n in range(200)], kind=b"g")]),
    "a PAX header of 8 GB": lambda: itertools.chain([header(b"x", b"x", size=2**33 - 1)], endless(b"x")),
    "a sparse map of one line": lambda: itertools.chain(
        [pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"1")), header(b"x", size=2**33 - 1)], endless(b"1")
    ),
    "a sparse map without end": lambda: itertools.chain([gnu_sparse(1, more=True)], endless(bytes(504) + b"\1" * 8)),
    "large attributes": lambda: numbered(
        1000, lambda number: pax((b"SCHILY.xattr.user.x", b"y" * 900_000)) + header(b"%d" % number)
    ),
    "links to links": lambda: numbered(
        200_000, lambda number: header(b"%d" % number, b"1", link=b"%d" % (number + 1))
    ),
    "directories left out": lambda: numbered(
        2000, lambda number: pax((b"path", b"%d" % number + b"/d" * 2000)) + header(b"x")
    ),
}  # fmt: skip


def main(name: str, directory: Path) -> dict[str, object]:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    runs._MOST_SPILLED = 256 * 1024 * 1024  # the disk of whoever runs tests
    limits = Limits(max_entries=300_000)
    said: dict[str, object] = {}
    try:
        with in_canonical_order(read_hashed(ChunkStream(HOSTILE[name]()), limits), directory) as entries:
            said["entries"] = sum(1 for _ in entries)
    except GoldsmithError as error:
        said |= {"error": type(error).__name__, "detail": error.detail}
    status = Path("/proc/self/status").read_text()
    return {**said, "peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
