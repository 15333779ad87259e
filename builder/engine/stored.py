"""Packages without their compression: a flat archive for who reads each package more than once.

mmdebstrap extracts every package, and then has dpkg install them all. With xz in them that is most of a bootstrap's
work, done twice, by one CPU. The compression is taken off once, by all CPUs; what is inside stays as it is.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from builder.planning.debs import DebStore, PackageUnreadable, control_of
from builder.planning.lock import LockedPackage

# deb(5): an ar archive. A member's header is its name (16), 32 bytes of no interest here, its size (10), and an end.
_MAGIC = b"!<arch>\n"
_END = b"`\n"
_XZ = b".xz"


def write_stored_archive(directory: Path, packages: Sequence[LockedPackage], debs: DebStore) -> int:
    """Fill `directory` as `write_flat_archive` does, with packages that are not compressed. Answers their bytes.

    Raises MaterialCorrupt, MaterialMissing or PackageUnreadable.
    """
    taken = [directory / f"{package.sha256}.taken" for package in packages]
    for package, source in zip(packages, taken, strict=True):
        debs.take(package, source)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        stored = list(pool.map(_stored, taken))
    (directory / "Packages").write_text("\n".join(stanza for stanza, _ in stored), "utf-8")
    return sum(size for _, size in stored)


def _stored(source: Path) -> tuple[str, int]:
    """Put an uncompressed package in the place of a compressed one. Answers its stanza of the index, and its bytes."""
    target = source.with_suffix(".deb")
    with source.open("rb") as deb, target.open("w+b") as out:
        try:
            size = _store(deb, out)
        except (lzma.LZMAError, EOFError, ValueError) as error:
            raise PackageUnreadable(f"{target.name} is not a Debian package: {error}") from error
        out.seek(0)
        sha256 = hashlib.file_digest(out, "sha256").hexdigest()
    source.unlink()
    return f"{control_of(target).rstrip()}\nFilename: ./{target.name}\nSize: {size}\nSHA256: {sha256}\n", size


def _store(deb: IO[bytes], out: IO[bytes]) -> int:
    """Copy a package, its members without xz; answers the bytes written.

    Raises ValueError, EOFError or LZMAError when it is none.
    """
    if deb.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is no ar archive")
    out.write(_MAGIC)
    while header := deb.read(60):
        if header[58:] != _END:
            raise ValueError("a member has no header")
        name, size = header[:16].rstrip(b" /"), int(header[48:58])
        content = deb.read(size)
        deb.read(size % 2)  # members start at even places
        if len(content) != size:
            raise EOFError("it ends within a member")
        start = out.tell()
        out.write(header)
        if name.endswith(_XZ):
            name = name.removesuffix(_XZ)
            with lzma.open(io.BytesIO(content)) as plain:
                shutil.copyfileobj(plain, out, 1024 * 1024)
        else:
            out.write(content)
        end = out.tell()
        size = end - start - len(header)
        out.seek(start)
        out.write(name.ljust(16) + header[16:48] + str(size).encode().ljust(10) + _END)
        out.seek(end)
        out.write(b"\n" * (size % 2))
    return out.tell()
