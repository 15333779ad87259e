"""The root of a Merkle tree over a stream of leaves (RFC 6962, section 2.1), in memory logarithmic in their number."""

from __future__ import annotations

import hashlib


class MerkleRoot:
    def __init__(self) -> None:
        # Full subtrees from left to right, each smaller than the one before: (leaves, hash).
        self._subtrees: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        size, node = 1, hashlib.sha256(b"\x00" + leaf).digest()
        while self._subtrees and self._subtrees[-1][0] == size:
            _, left = self._subtrees.pop()
            size, node = 2 * size, hashlib.sha256(b"\x01" + left + node).digest()
        self._subtrees.append((size, node))

    def root(self) -> str:
        """The string `sha256:` and the root's hex digits; of no leaves, the hash of the empty string."""
        if not self._subtrees:
            return f"sha256:{hashlib.sha256(b'').hexdigest()}"
        *others, (_, node) = self._subtrees
        for _, left in reversed(others):
            node = hashlib.sha256(b"\x01" + left + node).digest()
        return f"sha256:{node.hex()}"
