"""Brings locked packages into the store: from the first source that still has the exact bytes."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from builder.errors import Rejected
from builder.planning.debs import DebStore, MaterialCorrupt
from builder.planning.lock import LockedPackage

_CACHE = "cache"
_THREADS = 4
_RELOCK = "`goldsmith recipe lock` locks what the archive has now"


class MaterialGone(Rejected):
    """An archive keeps current versions only. What was locked lasts where it is kept: beside a released image."""

    slug = "material-gone"
    title = "A locked package can no longer be had"


class Source(Protocol):
    """A place that may have packages. `name` is for people."""

    @property
    def name(self) -> str: ...

    def fetch(self, package: LockedPackage, destination: Path) -> bool:
        """Write a package's file to `destination`; False if it is not there. Whoever asks checks the digest."""
        ...


class Supply:
    """`sources` are asked in their order. Threads share them."""

    def __init__(self, debs: DebStore, sources: Sequence[Source], check: Callable[[], None] = lambda: None) -> None:
        self._debs = debs
        self._sources = sources
        self._check = check
        self.brought: dict[str, int] = {}

    def bring(self, packages: Iterable[LockedPackage]) -> None:
        """Have every package in the store, and count in `brought` how many came from where.

        Raises MaterialGone, MaterialCorrupt for one whose bytes are not the locked ones, and what sources raise.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            self.brought = dict(Counter(pool.map(self._bring, packages)))

    def _bring(self, package: LockedPackage) -> str:
        self._check()
        origin = self._origin(package)
        actual = self._debs.path(package.sha256).stat().st_size
        if actual != package.size:
            raise MaterialCorrupt(f"{package} has {actual} bytes; the lock says {package.size}", hint=_RELOCK)
        return origin

    def _origin(self, package: LockedPackage) -> str:
        if self._debs.has(package.sha256):
            return _CACHE
        with tempfile.TemporaryDirectory(prefix="supply-") as work:
            file = Path(work) / f"{package.sha256}.deb"  # of any length that a name may have
            for source in self._sources:
                if source.fetch(package, file):
                    self._add(file, package, source)
                    return source.name
        asked = ", ".join(source.name for source in self._sources) or "nothing but the cache"
        raise MaterialGone(
            f"{package} with sha256 {package.sha256[:12]}… cannot be had any more (asked: {asked})",
            hint=f"{_RELOCK}; a released image keeps its own packages",
        )

    def _add(self, file: Path, package: LockedPackage, source: Source) -> None:
        try:
            self._debs.add(file, package.sha256)
        except MaterialCorrupt as error:
            raise MaterialCorrupt(
                f"{package}, as {source.name} has it, is not what was locked: {error.detail}",
                hint="its storage is damaged, or somebody changed it; nothing was built from it",
            ) from error
