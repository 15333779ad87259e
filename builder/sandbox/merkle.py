"""A Merkle tree in memory, with every complete subtree remembered.

Level k holds the hashes of the complete subtrees of 2^k leaves, in order. An append computes each new one once, so
that a root or a proof at any size costs a number of hashes logarithmic in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from builder.merkle import proofs
from builder.merkle.hashing import node_hash


class MerkleTree:
    """An append-only list of leaf hashes. Not for several threads at once."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add a leaf hash and return its index."""
        index = len(self)
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            left, right = self._levels[level][-2:]
            self._levels[level + 1].append(node_hash(left, right))
            level += 1
        return index

    def node(self, level: int, index: int) -> bytes:
        return self._levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        """The tree head of the first `size` leaves (all of them by default). Raises IndexError."""
        return proofs.root_at(self._held(size), self.node)

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """As `proofs.inclusion_proof`; in all leaves by default. Raises IndexError."""
        return proofs.inclusion_proof(index, self._held(size), self.node)

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """As `proofs.consistency_proof`. Raises IndexError."""
        return proofs.consistency_proof(first, self._held(second), self.node)

    def _held(self, size: int | None) -> int:
        size = len(self) if size is None else size
        if not 0 <= size <= len(self):
            raise IndexError(f"the tree has no size {size}")
        return size
