"""The images in the engine that builds start from, kept under a limit although the engine records no use of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from builder.engine.docker import Engine, cache_reference
from builder.eviction import Kept, least_recently_used
from builder.locking import exclusive


class BaseImages:
    """Bootstrapped roots and pulled images. Of those that this Goldsmith used `directory` holds a stamp each.

    A stamp's text is the image's reference, its mtime the last use. An image is stamped before it is looked for, stamps
    and `trim` exclude each other by a lock, and `trim` spares what was stamped lately: so an image that was answered is
    there for `keep_seconds`, and from then on a container holds it. Images without a stamp are somebody else's.
    """

    def __init__(self, engine: Engine, directory: Path) -> None:
        self._engine = engine
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def cached(self, key: str) -> str | None:
        """The image that was imported under a key before, or None."""
        self._stamp(cache_reference(key))
        return self._engine.cached(key)

    def import_root(self, tar: Path, key: str) -> str:
        """Make an image of a root file system's tar, and keep it under a key. Answers the image's id.

        Of workers that made the same root at once all get the first one's: a second image would take its name away, and
        one without a name nobody ever removes.
        """
        self._stamp(cache_reference(key))
        with exclusive(self._directory.with_name(f"{self._directory.name}.importing.lock")):
            return self._engine.cached(key) or self._engine.import_root(tar, key)

    def pull(self, reference: str) -> str:
        """Pull an image by digest (`host/repository@sha256:…`) and answer its id. Raises BaseUnavailable."""
        self._stamp(reference)
        return self._engine.pull(reference)

    def trim(self, limit: int, *, keep_seconds: float) -> int:
        """Remove the least recently used images until at most `limit` bytes stay; answers how many bytes went.

        What was used within `keep_seconds` stays, and so does what a container uses; more than `limit` stays then.
        Layers that images share count for each of them.
        """
        before = time.time() - keep_seconds
        gone = 0
        with self._locked():
            for image in least_recently_used(self._kept(before), limit, before):
                if self._engine.remove_unused(image.name):
                    self._path(image.name).unlink()
                    gone += image.size
        return gone

    def _kept(self, before: float) -> Iterator[Kept]:
        """Also forgets the stamps whose image is no longer there, and those that a dying worker wrote in part."""
        for path in sorted(self._directory.iterdir()):
            reference, used = path.read_text("utf-8", "replace"), path.stat().st_mtime
            size = self._engine.size(reference) if path == self._path(reference) else None
            if size is not None:
                yield Kept(reference, size, used)
            elif used < before:
                path.unlink()

    def _stamp(self, reference: str) -> None:
        with self._locked():
            self._path(reference).write_text(reference, "utf-8")

    def _path(self, reference: str) -> Path:
        return self._directory / hashlib.sha256(reference.encode()).hexdigest()

    def _locked(self) -> AbstractContextManager[None]:
        return exclusive(self._directory.with_name(f"{self._directory.name}.lock"))
