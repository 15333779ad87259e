"""A tree that only grows, by its right edge alone: memory logarithmic in the number of its leaves."""

from __future__ import annotations

from builder.merkle.hashing import EMPTY_ROOT, HASH_BYTES, node_hash


class Frontier:
    """`hashes` are those of the complete subtrees that make up `size` leaves, from left to right, the largest first."""

    def __init__(self, size: int = 0, hashes: bytes = b"") -> None:
        """Take up a frontier that was put down. Raises ValueError when the hashes are not of such a size."""
        if len(hashes) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} complete subtrees")
        self._size = size
        self._hashes = [hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES)]

    @property
    def size(self) -> int:
        return self._size

    @property
    def hashes(self) -> bytes:
        return b"".join(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        # A subtree is completed for each one that ends the binary form of the size, as in a carry.
        node, rest = leaf, self._size
        while rest & 1:
            node = node_hash(self._hashes.pop(), node)
            rest >>= 1
        self._hashes.append(node)
        self._size += 1

    def root(self) -> bytes:
        if not self._hashes:
            return EMPTY_ROOT
        *others, node = self._hashes
        for left in reversed(others):
            node = node_hash(left, node)
        return node


def root_of(leaves: list[bytes]) -> bytes:
    """The root over a few leaf hashes."""
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()
