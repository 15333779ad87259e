"""A vulnerability database as one file, for a registry or a medium: a tar.gz with trivy.db and metadata.json."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from datetime import datetime
from pathlib import Path
from typing import IO

from isal import igzip

from builder.scanning.errors import DatabaseCorrupt, DatabaseMissing

FILES = ("trivy.db", "metadata.json")
# A real trivy.db has 0.9 GB. Nothing that claims more is unpacked.
_LARGEST = {"trivy.db": 8 * 1024**3, "metadata.json": 1024**2}
_CHUNK = 1 << 20


def pack(directory: Path, archive: Path, modified: datetime) -> str:
    """Write the two files in `directory` to `archive`; the same files give the same bytes with the same library.

    Answers `sha256:<hex>` of the archive, which is there whole or not at all. Raises DatabaseMissing where a file
    cannot be read or there is no room.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=archive.absolute().parent, prefix=".incoming-", delete=False) as out:
            incoming = Path(out.name)
            try:
                with (
                    igzip.IGzipFile("", "wb", 2, out, 0) as packed,  # type: ignore[no-untyped-call]
                    tarfile.open(fileobj=packed, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
                ):
                    for name in FILES:
                        _add(tar, directory / name, int(modified.timestamp()))
                out.flush()
                os.fsync(out.fileno())
                incoming.chmod(0o644)
                incoming.replace(archive)
            except BaseException:
                incoming.unlink(missing_ok=True)
                raise
        with archive.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise DatabaseMissing(f"the database cannot be written to {archive}: {error.strerror}") from error


def unpack(archive: Path, directory: Path) -> None:
    """Put the two files of `archive` into `directory`. Raises DatabaseMissing and DatabaseCorrupt.

    Only regular files with exactly their names are read, and only as content: no path of the archive is ever used.
    """
    lacking = set(FILES)
    try:
        with gzip.open(archive, "rb") as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name not in lacking or not member.isreg():
                    continue
                if member.size > _LARGEST[name]:
                    raise DatabaseCorrupt(f"the database's {name} in {archive} claims {member.size} bytes")
                content = tar.extractfile(member)
                assert content is not None, "a regular file has content"
                _write(content, directory / name)
                lacking.discard(name)
            # gzip's checksum stands at the very end, behind what tar wants to read.
            if len(packed.read(_CHUNK)) == _CHUNK:
                raise DatabaseCorrupt(f"{archive} has something behind its end")
    except FileNotFoundError as error:
        raise DatabaseMissing(f"there is no database {archive}") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise DatabaseCorrupt(f"{archive} is not a whole tar.gz: {error}") from error
    except OSError as error:
        raise DatabaseMissing(f"the database {archive} cannot be unpacked: {error.strerror or error}") from error
    if lacking:
        raise DatabaseCorrupt(f"{archive} has no {' and no '.join(sorted(lacking))}")


def _add(tar: tarfile.TarFile, path: Path, modified: int) -> None:
    with path.open("rb") as file:
        member = tarfile.TarInfo(path.name)
        member.size, member.mode, member.mtime = os.fstat(file.fileno()).st_size, 0o644, modified
        tar.addfile(member, file)


def _write(content: IO[bytes], path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
