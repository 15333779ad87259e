"""Inclusion and consistency proofs (RFC 6962, section 2.1), made from the hashes of complete subtrees, and verified.

Making one asks for a number of hashes logarithmic in the size. Verification follows RFC 9162, sections 2.1.3.2 and
2.1.4.2, and needs nothing but the proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from builder.errors import Rejected
from builder.merkle.hashing import EMPTY_ROOT, HASH_BYTES, node_hash

Nodes = Callable[[int, int], bytes]
"""The hash of a complete subtree: that of the leaves from index * 2**level on, 2**level of them."""


class ProofInvalid(Rejected):
    slug = "merkle-proof-invalid"
    title = "A Merkle proof does not hold"


def root_at(size: int, nodes: Nodes) -> bytes:
    """The root that the tree had at a size."""
    return _subtree(0, size, nodes) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """The audit path of a leaf in the first `size` leaves, from the leaf upwards (section 2.1.1). Raises IndexError."""
    if not 0 <= index < size:
        raise IndexError(f"no leaf {index} in a tree of size {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, nodes))
            end = middle
        else:
            path.append(_subtree(start, middle, nodes))
            start = middle
    return path[::-1]


def consistency_proof(first: int, second: int, nodes: Nodes) -> list[bytes]:
    """The proof that the first `first` leaves begin the first `second` (section 2.1.2). Raises IndexError."""
    if not 0 < first <= second:
        raise IndexError(f"no proof from size {first} to size {second}")
    path: list[bytes] = []
    start, end = 0, second
    # The old root itself is left out while it is a subtree of the new tree: the verifier has it.
    known = True
    while end != first:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_subtree(middle, end, nodes))
            end = middle
        else:
            path.append(_subtree(start, middle, nodes))
            start, known = middle, False
    if not known:
        path.append(_subtree(start, end, nodes))
    return path[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """That a tree of `size` leaves with this root has this leaf hash at `index`. Raises ProofInvalid."""
    _require_hashes(leaf, *path)
    if not 0 <= index < size:
        raise ProofInvalid(f"a tree of size {size} has no entry {index}")
    node, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofInvalid("the inclusion proof is longer than the tree is high")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofInvalid("the inclusion proof is shorter than the tree is high")
    if found != root:
        raise ProofInvalid(f"entry {index} is not in the tree of size {size}: its proof leads to another root")


def verify_consistency(first: int, second: int, old: bytes, new: bytes, path: Sequence[bytes]) -> None:
    """That the tree of size `first` with root `old` begins the one of size `second`, `new`. Raises ProofInvalid."""
    _require_hashes(*path)
    if not 0 < first <= second:
        raise ProofInvalid(f"a tree of size {second} continues none of size {first} that a proof could be about")
    if first == second:
        if path:
            raise ProofInvalid("between trees of one size there is nothing to prove")
        if old != new:
            raise ProofInvalid(f"two trees of size {first} have different roots")
        return
    if not path:
        raise ProofInvalid("the consistency proof is empty")
    hashes = [old, *path] if first & (first - 1) == 0 else list(path)
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofInvalid("the consistency proof is longer than the tree is high")
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofInvalid("the consistency proof is shorter than the tree is high")
    if before != old:
        raise ProofInvalid(f"the tree of size {second} does not continue the one of size {first}: its past differs")
    if after != new:
        raise ProofInvalid(f"the consistency proof leads to another root at size {second}")


def _require_hashes(*hashes: bytes) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ProofInvalid(f"a hash of the proof is not {HASH_BYTES} bytes long")


def _subtree(start: int, end: int, nodes: Nodes) -> bytes:
    size = end - start
    if size & (size - 1) == 0:
        return nodes(size.bit_length() - 1, start // size)
    middle = start + _split(size)
    return node_hash(_subtree(start, middle, nodes), _subtree(middle, end, nodes))


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1
