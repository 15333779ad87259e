"""Locked packages from the Debian archive, by the path where it keeps them, for as long as it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from builder.errors import ProgramFailed
from builder.planning.lock import LockedPackage
from builder.planning.mirrors import Mirrors
from builder.process import run

# apt's own downloader, so that its proxies, schemes and certificates hold here too.
HELPER = "/usr/lib/apt/apt-helper"
_SECONDS = 300


class MirrorSource:
    """The archive, the security archive after it, and then those beside."""

    name = "the Debian archive"

    def __init__(self, mirrors: Mirrors, should_stop: Callable[[], bool] | None = None) -> None:
        self._bases = mirrors.bases
        self._should_stop = should_stop

    def fetch(self, package: LockedPackage, destination: Path) -> bool:
        """A mirror that does not answer counts as one that does not have it: another source may."""
        return package.path is not None and any(self._download(base, package, destination) for base in self._bases)

    def _download(self, base: str, package: LockedPackage, destination: Path) -> bool:
        assert package.path is not None
        destination.unlink(missing_ok=True)
        address = f"{base}/{quote(package.path, safe='/+~.-_')}"
        try:
            run(
                [
                    HELPER, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2",
                    "download-file", address, destination, f"SHA256:{package.sha256}",
                ],
                timeout=_SECONDS,
                should_stop=self._should_stop,
            )  # fmt: skip
        except ProgramFailed:
            return False
        return destination.exists()
