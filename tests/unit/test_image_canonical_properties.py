"""Whatever tree, whoever wrote its archive and in whatever order: one encoding, which says what was put in."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.image.canonical import canonicalise
from builder.image.changes import diff
from builder.image.entry import Entry, EntryType
from builder.image.flatten import flatten
from builder.image.tarwriter import tar_stream
from tests.unit.trees import DIALECTS, Dialect, Layer, Tree, archive_of, entries_of, stacks, trees

EPOCH = 1_700_000_000
RANDOM = st.randoms(use_true_random=False)


def canonical(archive: bytes, directory: Path) -> tuple[tuple[Entry, ...], bytes]:
    """The entries, and the canonical tar."""
    with canonicalise(io.BytesIO(archive), spool_dir=directory, epoch=EPOCH) as tree:
        return tree.entries, b"".join(tar_stream(tree.entries, tree.contents, epoch=EPOCH))


many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@many
@given(tree=trees(), one=DIALECTS, other=DIALECTS, choose=RANDOM)
def test_a_tree_has_one_encoding_and_it_says_what_the_tree_holds(
    tmp_path: Path, tree: Tree, one: Dialect, other: Dialect, choose: random.Random
) -> None:
    entries, encoded = canonical(archive_of(tree, one, choose), tmp_path)
    assert entries == entries_of(tree)
    assert canonical(archive_of(tree, other, choose), tmp_path)[1] == encoded
    assert canonical(encoded, tmp_path) == (entries, encoded)


@many
@given(stack=stacks(), dialect=DIALECTS, choose=RANDOM)
def test_whiteouts_hide_what_lies_below_wherever_they_stand_in_the_archive(
    stack: tuple[Tree, Layer], dialect: Dialect, choose: random.Random
) -> None:
    lower, layer = stack
    archives = [archive_of(lower, dialect, choose), archive_of(layer.stored(), dialect, choose)]
    assert flatten(map(io.BytesIO, archives)) == entries_of(layer.over(lower))


@many
@given(stack=stacks(), dialect=DIALECTS, choose=RANDOM)
def test_a_base_and_what_changed_over_it_make_the_tree(
    tmp_path: Path, stack: tuple[Tree, Layer], dialect: Dialect, choose: random.Random
) -> None:
    lower, layer = stack
    base, encoded = canonical(archive_of(lower, dialect, choose), tmp_path)
    after = archive_of(layer.over(lower), dialect, choose)
    with canonicalise(io.BytesIO(after), spool_dir=tmp_path, epoch=EPOCH) as tree:
        child = b"".join(tar_stream(diff(base, tree.entries).layer_entries, tree.contents, epoch=EPOCH))
        assert flatten([io.BytesIO(encoded), io.BytesIO(child)]) == tree.entries == entries_of(layer.over(lower))


@many
@given(tree=trees(), dialect=DIALECTS, choose=RANDOM)
def test_directories_that_an_archive_leaves_out_are_what_engines_make_of_them(
    tmp_path: Path, tree: Tree, dialect: Dialect, choose: random.Random
) -> None:
    plain = Entry(b"", EntryType.DIRECTORY, 0o755, 0, 0)
    whole = tuple(replace(node, entry=plain) if node.entry.type is EntryType.DIRECTORY else node for node in tree)
    above = {name.rpartition(b"/")[0] for node in whole for name in node.names}
    without = tuple(node for node in whole if not above & {*node.names} or choose.random() < 0.5)
    assert canonical(archive_of(without, dialect, choose), tmp_path) == canonical(
        archive_of(whole, dialect, choose), tmp_path
    )
