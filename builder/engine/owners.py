"""Owners of files as a container knows them, also where the engine tells its host's.

With user namespaces (`userns-remap`) the engine packs and unpacks whole file systems in the container's own numbers,
but single paths, which it packs as they lie on its disk, in the host's. The namespace's root is in the name of the
engine's directory: `…/231072.231072`.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.errors import SettingsInvalid

_REMAPPED = re.compile(r".*/(\d+)\.(\d+)", re.DOTALL)


def security_of(about: Mapping[str, Any]) -> set[str]:
    """The engine's own names of what is on, of its `GET /info`: `seccomp`, `userns`, `rootless`…"""
    options = about.get("SecurityOptions") or []
    return {part.removeprefix("name=") for option in options for part in option.split(",")}


@dataclass(frozen=True)
class Owners:
    """`uid` and `gid` are the host's numbers of a container's root; both 0 where host and container count alike."""

    uid: int = 0
    gid: int = 0

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Owners:
        """Of an engine, by its `GET /info`. Raises SettingsInvalid if it has namespaces and does not say where."""
        if "userns" not in security_of(about):
            return cls()
        directory = str(about.get("DockerRootDir") or "")
        found = _REMAPPED.fullmatch(directory)
        if found is None:
            raise SettingsInvalid(
                f"GOLDSMITH_ENGINE_URL: the engine has user namespaces, and its directory {directory!r} does not end "
                "in the UID.GID of their root, so nobody can tell whose its containers' files are",
                hint="use an engine whose directory ends so, as dockerd has it, or one without user namespaces",
            )
        return cls(int(found[1]), int(found[2]))

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """The container's numbers. Those that are so already stay: they lie below the host's that a namespace has."""
        return uid - (self.uid if uid >= self.uid else 0), gid - (self.gid if gid >= self.gid else 0)

    def header_inside(self, header: tarfile.TarInfo) -> tarfile.TarInfo:
        """The header with the container's numbers."""
        header.uid, header.gid = self.inside(header.uid, header.gid)
        return header
