"""Proofs, frontiers and tiles: the published vectors, and the tree in memory, whose own tests follow RFC 9162."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigstore._internal import merkle as sigstore_merkle

from builder.merkle.frontier import Frontier, root_of
from builder.merkle.hashing import EMPTY_ROOT, leaf_hash
from builder.merkle.proofs import ProofInvalid, consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from builder.merkle.tiles import (
    WIDTH,
    Tile,
    TileInvalid,
    bundle,
    nodes_of,
    parse_bundle,
    parse_hashes,
    parse_path,
    tile_at,
)
from builder.sandbox.merkle import MerkleTree
from tests.unit.test_sandbox_merkle import HEADS, INPUTS, consistent, root_from_inclusion, tree_of

# Of transparency-dev/merkle, testdata/inclusion and testdata/consistency, one line each.
VECTORS = [json.loads(line) for line in (Path(__file__).parent / "vectors/merkle.jsonl").read_text().splitlines()]


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_there_are_as_many_vectors_as_were_published() -> None:
    assert len(VECTORS) == 196
    assert sum(vector["wantErr"] for vector in VECTORS) == 184


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_published_proof_is_judged_as_published(vector: dict[str, Any]) -> None:
    path = [raw(one) for one in vector["proof"] or []]

    def judged() -> None:
        if "leafIdx" in vector:
            leaf, root = raw(vector["leafHash"]), raw(vector["root"])
            verify_inclusion(vector["leafIdx"], vector["treeSize"], leaf, path, root)
        else:
            old, new = raw(vector["root1"]), raw(vector["root2"])
            verify_consistency(vector["size1"], vector["size2"], old, new, path)

    if vector["wantErr"]:
        with pytest.raises(ProofInvalid):
            judged()
    else:
        judged()


@given(st.integers(1, 2000), st.data())
def test_an_inclusion_proof_leads_where_a_second_implementation_goes(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    tree = tree_of(size)
    path = inclusion_proof(index, size, tree.node)
    leaf = leaf_hash(str(index).encode())
    inner, border = sigstore_merkle._decomp_inclusion_proof(index, size)
    assert len(path) == inner + border
    found = sigstore_merkle._chain_inner(leaf, path[:inner], index)
    assert sigstore_merkle._chain_border_right(found, path[inner:]) == tree.root()
    verify_inclusion(index, size, leaf, path, tree.root())


@given(st.integers(0, 600), st.integers(0, 600), st.lists(st.binary(min_size=32, max_size=32), max_size=12), st.data())
def test_what_is_verified_is_what_rfc_9162_verifies(
    first: int, second: int, invented: list[bytes], data: st.DataObject
) -> None:
    tree = tree_of(600)
    possible = 0 < first <= second
    path = data.draw(st.sampled_from([invented, tree.consistency_proof(first, second) if possible else invented]))
    if data.draw(st.booleans()) and path:
        path = [*path[:-1], invented[0]] if invented else path[:-1]
    old, new = tree.root(first), tree.root(second)
    expected = possible and consistent(first, second, old, new, path)
    try:
        verify_consistency(first, second, old, new, path)
    except ProofInvalid:
        assert not expected
    else:
        assert expected
    leaf = leaf_hash(str(first).encode())
    expected = root_from_inclusion(first, second, leaf, path) == new
    try:
        verify_inclusion(first, second, leaf, path, new)
    except ProofInvalid:
        assert not expected
    else:
        assert expected


class TestFrontier:
    def test_its_roots_are_the_known_ones(self) -> None:
        tree = Frontier()
        assert tree.root().hex() == HEADS[0]
        for text, root in zip(INPUTS, HEADS[1:], strict=True):
            tree.append(leaf_hash(bytes.fromhex(text)))
            assert tree.root().hex() == root

    def test_put_down_and_taken_up_at_every_size_it_is_the_same_tree(self) -> None:
        tree, whole = Frontier(), tree_of(300)
        for index in range(300):
            tree = Frontier(tree.size, tree.hashes)
            tree.append(leaf_hash(str(index).encode()))
            assert (tree.size, tree.root()) == (index + 1, whole.root(index + 1))

    def test_of_nothing_the_root_is_the_hash_of_nothing(self) -> None:
        assert Frontier().root() == root_of([]) == EMPTY_ROOT

    @pytest.mark.parametrize(("size", "hashes"), [(1, 0), (2, 2), (3, 1), (0, 1)])
    def test_hashes_that_are_not_of_its_size_are_refused(self, size: int, hashes: int) -> None:
        with pytest.raises(ValueError, match="complete subtrees"):
            Frontier(size, bytes(32 * hashes))


def tiles_of(tree: MerkleTree) -> dict[Tile, list[bytes]]:
    """Every tile of the tree by its definition (tlog-tiles, "Merkle Tree")."""
    found = {}
    for level in range(3):
        for index in range(len(tree) // WIDTH + 1):
            tile = tile_at(level, index, len(tree))
            if tile is not None:
                found[tile] = [tree.node(8 * level, index * WIDTH + place) for place in range(tile.width)]
    return found


class TestTiles:
    def test_a_tree_of_70000_has_the_tiles_of_the_specifications_example(self) -> None:
        found = [[tile.width for index in range(300) if (tile := tile_at(level, index, 70_000))] for level in range(4)]
        assert found == [[256] * 273 + [112], [256, 17], [1], []]
        assert [tile_at(level, 0, 256) for level in range(3)] == [Tile(0, 0), Tile(1, 0, 1), None]

    @pytest.mark.parametrize(
        ("tile", "path"),
        [
            (Tile(0, 1234067), "0/x001/x234/067"),
            (Tile(63, 0), "63/000"),
            (Tile(5, 999, 1), "5/999.p/1"),
            (Tile(None, 1000, 255), "entries/x001/000.p/255"),
        ],
    )
    def test_a_path_names_a_tile_and_a_tile_has_one_path(self, tile: Tile, path: str) -> None:
        assert tile.path == path
        assert parse_path(path) == tile

    @pytest.mark.parametrize(
        "path",
        ["", "0", "0/", "0/1", "0/0001", "0/x000/001", "0/001/002", "0/x01/002", "-1/000", "64/000", "00/000", "x/000",
         "0/000.p/0", "0/000.p/256", "0/000.p/01", "0/000.p/", "0/000.p/-1", "entries", "entries/", "0/000/", "0//000",
         "0/٠٠٠", "0/000.p/٣", "0/../000", " 0/000", "0/000\n", "0/000.p/1.p/1", "٣/000"],
    )  # fmt: skip
    def test_no_other_path_is_understood(self, path: str) -> None:
        with pytest.raises(TileInvalid):
            parse_path(path)

    @pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 65_535, 65_536, 65_537, 70_000])
    def test_roots_and_proofs_are_those_of_the_tree(self, size: int) -> None:
        tree = tree_of(size)
        tiles = tiles_of(tree)
        nodes = nodes_of(tiles.__getitem__, size)
        for index in {0, size // 2, size - 1}:
            assert inclusion_proof(index, size, nodes) == tree.inclusion_proof(index)
        for first in {1, (size + 1) // 2, size}:
            assert consistency_proof(first, size, nodes) == tree.consistency_proof(first, size)

    def test_what_a_tree_of_that_size_does_not_have_is_not_answered(self) -> None:
        nodes = nodes_of(tiles_of(tree_of(300)).__getitem__, 300)
        for level, index in [(0, 300), (2, 75), (8, 1), (16, 0)]:
            with pytest.raises(IndexError):
                nodes(level, index)

    def test_a_tile_of_another_width_is_refused(self) -> None:
        assert parse_hashes(bytes(64), Tile(0, 0, 2)) == [bytes(32)] * 2
        with pytest.raises(TileInvalid):
            parse_hashes(bytes(65), Tile(0, 0, 2))
        with pytest.raises(TileInvalid):
            parse_hashes(bytes(64), Tile(0, 0))

    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
    def test_a_bundle_gives_back_its_entries(self, entries: list[bytes]) -> None:
        assert parse_bundle(bundle(entries), Tile(None, 0, len(entries))) == entries

    @pytest.mark.parametrize("content", [b"", b"\0", b"\0\1", b"\0\1a", b"\0\1a\0\1b\0\1c", b"\0\1a\0\1", b"\0\1a\0"])
    def test_a_bundle_that_is_cut_off_or_of_another_width_is_refused(self, content: bytes) -> None:
        with pytest.raises(TileInvalid):
            parse_bundle(content, Tile(None, 0, 2))

    def test_an_entry_too_long_for_its_length_is_refused(self) -> None:
        assert parse_bundle(bundle([bytes(0xFFFF)]), Tile(None, 0, 1)) == [bytes(0xFFFF)]
        with pytest.raises(TileInvalid):
            bundle([bytes(0x10000)])
