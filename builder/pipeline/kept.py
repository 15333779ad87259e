"""Packages from the registry, where each released image keeps the exact ones it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.image.documents import Descriptor
from builder.planning.debs import MaterialCorrupt
from builder.planning.lock import LockedPackage
from builder.registry.client import RegistryClient
from builder.registry.errors import BlobUnknown, DigestMismatch
from builder.registry.reference import Repository

DEB = "application/vnd.debian.binary-package"


class KeptSource:
    """`repositories` are asked in their order; each answers by digest alone."""

    def __init__(self, registry: RegistryClient, repositories: Sequence[Repository]) -> None:
        self._registry = registry
        self._repositories = repositories

    @property
    def name(self) -> str:
        return "the registry"

    def fetch(self, package: LockedPackage, destination: Path) -> bool:
        """Raises MaterialCorrupt, by the package's name, for bytes that are not the locked ones."""
        blob = Descriptor(media_type=DEB, digest=f"sha256:{package.sha256}", size=package.size)
        for repository in self._repositories:
            try:
                self._registry.blobs.pull(repository, blob, destination)
            except BlobUnknown:
                continue
            except DigestMismatch as error:
                raise MaterialCorrupt(
                    f"{package}, as {repository} keeps it, is not what was locked: sha256 {package.sha256} is expected",
                    hint="the registry's storage is damaged, or somebody changed it; nothing was built from it",
                ) from error
            return True
        return False
