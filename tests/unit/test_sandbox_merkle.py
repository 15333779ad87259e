"""The tree is the one of RFC 6962: its heads have the known values, and its proofs verify by RFC 9162's algorithms."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.merkle.hashing import leaf_hash, node_hash
from builder.sandbox.merkle import MerkleTree

# The inputs and tree heads that Certificate Transparency implementations have tested with from the start.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
HEADS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree_of(size: int) -> MerkleTree:
    return MerkleTree(leaf_hash(str(index).encode()) for index in range(size))


def head(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word and without any memory."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(head(leaves[:split]), head(leaves[split:]))


def root_from_inclusion(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes | None:
    """RFC 9162, section 2.1.3.2."""
    if index >= size:
        return None
    node, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def consistent(first: int, second: int, old: bytes, new: bytes, path: list[bytes]) -> bool:
    """RFC 9162, section 2.1.4.2."""
    if first == second:
        return not path and old == new
    path = [old, *path] if first & (first - 1) == 0 else list(path)
    if not path:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    return before == old and after == new and last == 0


def test_the_heads_have_their_known_values() -> None:
    tree = MerkleTree(leaf_hash(bytes.fromhex(text)) for text in INPUTS)
    assert [tree.root(size).hex() for size in range(9)] == HEADS


def test_every_head_up_to_70_is_the_definitions() -> None:
    leaves = [leaf_hash(str(index).encode()) for index in range(70)]
    tree = MerkleTree(leaves)
    assert [tree.root(size) for size in range(71)] == [head(leaves[:size]) for size in range(71)]


def test_every_inclusion_proof_up_to_70_verifies() -> None:
    tree = tree_of(70)
    for size in range(1, 71):
        for index in range(size):
            path = tree.inclusion_proof(index, size)
            leaf = leaf_hash(str(index).encode())
            assert root_from_inclusion(index, size, leaf, path) == tree.root(size), (index, size)


def test_every_consistency_proof_up_to_70_verifies() -> None:
    tree = tree_of(70)
    for second in range(1, 71):
        for first in range(1, second + 1):
            path = tree.consistency_proof(first, second)
            assert consistent(first, second, tree.root(first), tree.root(second), path), (first, second)


@given(st.integers(1, 3000), st.data())
def test_no_proof_verifies_for_another_leaf_or_another_place(size: int, data: st.DataObject) -> None:
    tree = tree_of(size)
    index = data.draw(st.integers(0, size - 1))
    path = tree.inclusion_proof(index)
    assert root_from_inclusion(index, size, leaf_hash(str(index).encode()), path) == tree.root()
    assert root_from_inclusion(index, size, leaf_hash(b"another"), path) != tree.root()
    other = data.draw(st.integers(0, size))
    if other != index:
        assert root_from_inclusion(other, size, leaf_hash(str(index).encode()), path) != tree.root()


@given(st.integers(1, 400), st.data())
def test_a_rewritten_history_has_no_consistency_proof(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, first - 1))
    old = tree_of(first)
    new = MerkleTree(leaf_hash(b"changed" if index == changed else str(index).encode()) for index in range(size))
    assert not consistent(first, size, old.root(), new.root(), new.consistency_proof(first, size))


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, 4)])
def test_a_proof_for_what_is_not_there_is_refused(index: int, size: int) -> None:
    with pytest.raises(IndexError):
        tree_of(3).inclusion_proof(index, size)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (3, 2), (1, 4)])
def test_a_consistency_proof_between_sizes_it_never_had_is_refused(first: int, second: int) -> None:
    with pytest.raises(IndexError):
        tree_of(3).consistency_proof(first, second)
