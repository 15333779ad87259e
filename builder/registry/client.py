"""The registry client: one object for any number of registries, with its parts by what they act on."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from builder.registry.access import Access
from builder.registry.blobs import Blobs
from builder.registry.images import Images
from builder.registry.manifests import Manifests
from builder.registry.reference import Repository
from builder.registry.referrers import Referrers
from builder.registry.session import Session


class RegistryClient:
    """A context manager; threads may share one. `lock_directory` is shared by all processes that attach referrers."""

    def __init__(self, access: Access, *, lock_directory: Path) -> None:
        self._access = access
        self._session = Session(access)
        self.blobs = Blobs(self._session)
        self.manifests = Manifests(self._session)
        self.referrers = Referrers(self._session, self.manifests, lock_directory)
        self.images = Images(self.blobs, self.manifests)

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def url(self, repository: Repository) -> str:
        """Where a repository's manifests and blobs are: `https://HOST/v2/NAME` (distribution-spec, end-2 and end-3)."""
        return f"{self._access.base_url(repository.registry)}/v2/{repository.name}"

    def ping(self, registry: str) -> None:
        """Ask HOST[:PORT] whether it is a registry that lets us in. Raises RegistryUnavailable and RegistryRefused."""
        self._session.fetch("GET", Repository(registry, ""), "")
