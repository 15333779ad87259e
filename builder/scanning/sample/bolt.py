"""A writer of bbolt files (version 2), the format of Trivy's database: nested buckets, the same bytes each time.

A file is a run of 4096-byte pages: two meta pages, an empty free list, then B+ trees of leaf and branch pages. A bucket
is a value that holds the page number of its own tree; a small bucket carries its one leaf page inline.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

Bucket = Mapping[bytes, "bytes | Bucket"]

PAGE_SIZE = 4096
LARGEST_PAGE_SIZE = 65536  # bbolt takes the page size of the machine it runs on
_PAGE = struct.Struct("<QHHI")  # page number, flags, elements, pages that follow it because it overflows
_META = struct.Struct("<IIIIQQQQQ")  # magic, version, page size, flags, root, sequence, free list, pages, transaction
_LEAF = struct.Struct("<IIII")  # flags, offset of the key from this element, key size, value size
_BRANCH = struct.Struct("<IIQ")  # offset of the key from this element, key size, page number (16 bytes, as a leaf's)
_BUCKET = struct.Struct("<QQ")  # root page or 0 for inline, sequence

_MAGIC, _VERSION = 0xED0CDAED, 2
_IS_BRANCH, _IS_LEAF, _IS_META, _IS_FREE_LIST = 0x01, 0x02, 0x04, 0x10
_IS_BUCKET = 1
_INLINE_LIMIT = PAGE_SIZE // 4


def write(root: Bucket) -> bytes:
    """The file whose root bucket is `root`. Keys may not be empty (bbolt refuses them): ValueError."""
    file = _File()
    top = file.tree(root)
    count = len(file.pages) // PAGE_SIZE
    for number in (0, 1):
        file.put(number, _IS_META, 0, _meta(top, count, transaction=number))
    file.put(2, _IS_FREE_LIST, 0, b"")
    return bytes(file.pages)


def _meta(top: int, count: int, transaction: int) -> bytes:
    fields = _META.pack(_MAGIC, _VERSION, PAGE_SIZE, 0, top, 0, 2, count, transaction)
    return fields + struct.pack("<Q", fnv1a_64(fields))


def fnv1a_64(data: bytes) -> int:
    """The checksum of a meta page (FNV-1a, 64 bits)."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def size_promised_by(head: bytes) -> int:
    """The bytes a whole file has, by the newer of its two meta pages, given its first 128 KiB. Raises ValueError."""
    newest = _newest_meta(head)
    return newest[7] * newest[2]


def root_of(head: bytes) -> tuple[int, int]:
    """The page size in bytes and the page of the root bucket, given as much of the file. Raises ValueError."""
    newest = _newest_meta(head)
    return newest[2], newest[4]


def _newest_meta(head: bytes) -> tuple[int, ...]:
    metas = [_read_meta(head, 0)]
    page_size = next((meta[2] for meta in metas if meta), 0)
    for offset in (page_size,) if page_size else (1 << shift for shift in range(10, 17)):
        metas.append(_read_meta(head, offset))
    valid = [meta for meta in metas if meta]
    if not valid:
        raise ValueError("it has no valid meta page")
    return max(valid, key=lambda meta: meta[8])


def _read_meta(head: bytes, page: int) -> tuple[int, ...] | None:
    fields = head[page + _PAGE.size : page + _PAGE.size + _META.size]
    checksum = head[page + _PAGE.size + _META.size : page + _PAGE.size + _META.size + 8]
    if len(checksum) < 8 or int.from_bytes(checksum, "little") != fnv1a_64(fields):
        return None
    meta = _META.unpack(fields)
    return meta if meta[:2] == (_MAGIC, _VERSION) else None


class _File:
    def __init__(self) -> None:
        self.pages = bytearray(3 * PAGE_SIZE)

    def put(self, number: int, flags: int, elements: int, body: bytes) -> None:
        size = _PAGE.size + len(body)
        start = number * PAGE_SIZE
        self.pages[start : start + size] = _PAGE.pack(number, flags, elements, (size - 1) // PAGE_SIZE) + body

    def append(self, flags: int, elements: int, body: bytes) -> int:
        number = len(self.pages) // PAGE_SIZE
        self.pages.extend(bytes(-(-(_PAGE.size + len(body)) // PAGE_SIZE) * PAGE_SIZE))
        self.put(number, flags, elements, body)
        return number

    def tree(self, bucket: Bucket) -> int:
        """Write the pages of one bucket, its children's first; returns the page number of its root."""
        leaves = [
            (chunk[0][1] if chunk else b"", self.append(_IS_LEAF, len(chunk), _leaf(chunk)))
            for chunk in _pages(self._elements(bucket), least=1)
        ]
        return self._branches(leaves)

    def _elements(self, bucket: Bucket) -> list[tuple[int, bytes, bytes]]:
        elements = []
        for key, value in sorted(bucket.items(), key=lambda item: item[0]):
            if not key:
                raise ValueError("a bbolt key may not be empty")
            if isinstance(value, bytes):
                elements.append((0, key, value))
            else:
                elements.append((_IS_BUCKET, key, self._bucket(value)))
        return elements

    def _bucket(self, bucket: Bucket) -> bytes:
        if all(isinstance(value, bytes) for value in bucket.values()):
            elements = self._elements(bucket)
            inline = _PAGE.pack(0, _IS_LEAF, len(elements), 0) + _leaf(elements)
            if len(inline) <= _INLINE_LIMIT:
                return _BUCKET.pack(0, 0) + inline
        return _BUCKET.pack(self.tree(bucket), 0)

    def _branches(self, children: list[tuple[bytes, int]]) -> int:
        while len(children) > 1:
            # Two at least: a branch with a single child would never narrow to one root.
            chunks = _pages([(page, key, b"") for key, page in children], least=2)
            children = [(chunk[0][1], self.append(_IS_BRANCH, len(chunk), _branch(chunk))) for chunk in chunks]
        return children[0][1]


def _pages(elements: list[tuple[int, bytes, bytes]], least: int) -> list[list[tuple[int, bytes, bytes]]]:
    """Split elements into pages of at least `least` elements; a page overflows only where those do not fit."""
    pages: list[list[tuple[int, bytes, bytes]]] = [[]]
    room = PAGE_SIZE - _PAGE.size
    for element in elements:
        need = _LEAF.size + len(element[1]) + len(element[2])
        if len(pages[-1]) >= least and need > room:
            pages.append([])
            room = PAGE_SIZE - _PAGE.size
        pages[-1].append(element)
        room -= need
    return pages


def _leaf(elements: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    offset = len(elements) * _LEAF.size
    headers, data = bytearray(), bytearray()
    for index, (flags, key, value) in enumerate(elements):
        headers += _LEAF.pack(flags, offset + len(data) - index * _LEAF.size, len(key), len(value))
        data += key + value
    return bytes(headers + data)


def _branch(elements: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    offset = len(elements) * _BRANCH.size
    headers, data = bytearray(), bytearray()
    for index, (page, key, _) in enumerate(elements):
        headers += _BRANCH.pack(offset + len(data) - index * _BRANCH.size, len(key), page)
        data += key
    return bytes(headers + data)
