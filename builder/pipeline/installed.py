"""What is installed in the bases that a worker has lately resolved on: an image by digest never changes."""

from __future__ import annotations

from collections.abc import Callable

_REMEMBERED = 16


class Installed:
    """dpkg's status and the suite, by the digest of the image's manifest."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, str]] = {}

    def of(self, digest: str, look: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str]:
        """What is known, or what `look` says, remembered."""
        found = self._known.pop(digest, None) or look()
        self._known[digest] = found
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return found
