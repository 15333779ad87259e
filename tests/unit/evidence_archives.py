"""Archives of evidence with members of the test's choice."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

SUMS = "SHA256SUMS"


def read_members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        opened = ((member.name, tar.extractfile(member)) for member in tar)
        return {name: file.read() for name, file in opened if file is not None and name != SUMS}


def write_members(path: Path, members: Mapping[str, bytes]) -> Path:
    """A whole archive: its sums are those of its members, unless they are given."""
    told = {name: data for name, data in members.items() if name != SUMS}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in told.items()).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in {**told, SUMS: members.get(SUMS, sums)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
