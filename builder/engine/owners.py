"""Owners of files as a container knows them, also where the engine tells its host's.

With user namespaces (`userns-remap`) the engine packs and unpacks whole file systems in the container's own numbers,
but single paths, which it packs as they lie on its disk, in the host's. The namespace's root is in the name of the
engine's directory: `…/231072.231072`.
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass

_REMAPPED = re.compile(r".*/(\d+)\.(\d+)", re.DOTALL)


@dataclass(frozen=True)
class Owners:
    """`uid` and `gid` are the host's numbers of a container's root; both 0 where host and container count alike."""

    uid: int = 0
    gid: int = 0

    @classmethod
    def below(cls, engine_directory: str) -> Owners:
        """Of an engine with user namespaces, by its directory."""
        found = _REMAPPED.fullmatch(engine_directory)
        return cls(int(found[1]), int(found[2])) if found else cls()

    def inside(self, header: tarfile.TarInfo) -> tarfile.TarInfo:
        """The header with the container's numbers. One that has them already stays: they lie below those of the host's
        that a namespace is given."""
        header.uid -= self.uid if header.uid >= self.uid else 0
        header.gid -= self.gid if header.gid >= self.gid else 0
        return header
