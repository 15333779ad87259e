"""Does a Trivy database have advisories for a release of a distribution? Trivy itself finds nothing in one it does not
know, and reports that as nothing found.

Each release has a bucket of its own at the top of the database. Only these names are read, whatever the file's size.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from builder.scanning.errors import DatabaseCorrupt
from builder.scanning.findings import OperatingSystem
from builder.scanning.sample import bolt

_PAGE = struct.Struct("<QHHI")  # page number, flags, elements, pages that follow it because it overflows
_LEAF = struct.Struct("<IIII")  # flags, offset of the key from this element, key size, value size
_BRANCH = struct.Struct("<IIQ")  # offset of the key from this element, key size, page number
_IS_BRANCH, _IS_LEAF, _IS_BUCKET = 0x01, 0x02, 1
_MOST_PAGES = 10_000

# How Trivy names the bucket of a release, by the family in its reports: the whole version, or its first parts.
_PARTS = {
    "debian": ("debian", 1), "ubuntu": ("ubuntu", 2), "alpine": ("alpine", 2), "rocky": ("rocky", 1),
    "alma": ("alma", 1), "oracle": ("Oracle Linux", 1), "amazon": ("amazon linux", 1), "photon": ("Photon OS", 2),
    "cbl-mariner": ("CBL-Mariner", 2), "azurelinux": ("Azure Linux", 2),
    "redhat": ("Red Hat", 0), "centos": ("Red Hat", 0), "wolfi": ("wolfi", 0), "chainguard": ("chainguard", 0),
}  # fmt: skip


def covers(advisories: frozenset[str], system: OperatingSystem | None) -> bool | None:
    """Whether a database with `advisories` (`buckets`) has those for `system`, whose life Trivy does not say has ended.

    None where nothing says which system it is. Of a family that is not known here the answer is no.
    """
    if system is None:
        return None
    if system.end_of_life or system.family not in _PARTS:
        return False
    prefix, parts = _PARTS[system.family]
    version = ".".join(system.name.split()[0].split(".")[:parts]) if system.name.split() else ""
    if parts and not version:
        return False
    return " ".join([prefix, version] if parts else [prefix]) in advisories


def buckets(database: Path) -> frozenset[str]:
    """The names of the buckets at the top. Raises DatabaseCorrupt."""
    try:
        with database.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            page_size, root = bolt.root_of(data[: 2 * bolt.LARGEST_PAGE_SIZE])
            return frozenset(name.decode("utf-8", "replace") for name in _names(data, page_size, root))
    except (OSError, ValueError, struct.error) as error:
        raise DatabaseCorrupt(f"the database's {database.name} cannot be read: {error}") from error


def _names(data: mmap.mmap, page_size: int, root: int) -> Iterator[bytes]:
    pending, read = [root], 0
    while pending:
        start = pending.pop() * page_size
        read += 1
        if read > _MOST_PAGES:
            raise ValueError("its tree has no end")
        _, flags, elements, _ = _PAGE.unpack_from(data, start)
        if not flags & (_IS_BRANCH | _IS_LEAF):
            raise ValueError("a page of its tree is no page of a tree")
        for number in range(elements):
            at = start + _PAGE.size + number * _LEAF.size
            if flags & _IS_BRANCH:
                pending.append(_BRANCH.unpack_from(data, at)[2])
                continue
            kind, offset, length, _ = _LEAF.unpack_from(data, at)
            if kind & _IS_BUCKET:
                yield data[at + offset : at + offset + length]
