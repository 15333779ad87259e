"""Every record enters the tree with the transaction that adds it, at the next place, whoever else appends meanwhile."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime

import pytest
import rfc8785
from sqlalchemy import select, update

from builder.ledger import stored
from builder.ledger.entry import EntryInvalid, LedgerEntry, entry_bytes, parse_entry
from builder.ledger.record import append
from builder.ledger.stored import LedgerDamaged, TileUnknown
from builder.merkle.hashing import leaf_hash
from builder.merkle.proofs import consistency_proof, inclusion_proof, root_at
from builder.merkle.tiles import WIDTH, Tile, tile_at
from builder.sandbox.merkle import MerkleTree
from builder.store import errands
from builder.store.database import Database
from builder.store.errands import ErrandKind
from builder.store.schema import LedgerHead, LedgerTile, Record
from tests.unit.evidence import digest
from tests.unit.ledgers import FORMAT, add_build, append_records, record, tree_rows

pytest_plugins = ["tests.unit.databases"]


def leaves(database: Database) -> list[bytes]:
    with database.read() as session:
        found = stored.entries(session, 0, 1 << 30)
    assert [one.place for one in found] == list(range(len(found)))
    assert all(one.hash == one.kept for one in found)
    return [one.kept for one in found]


class TestEntries:
    def test_an_entry_names_the_record_and_is_canonical(self, database: Database) -> None:
        append_records(database, 1)
        with database.read() as session:
            row = session.scalars(select(Record)).one()
            entry = stored.entries(session, 0, 1)[0].entry
        assert entry is not None
        assert json.loads(entry) == {
            "buildId": "0" * 26,
            "format": "goldsmith-ledger-entry/v1",
            "imageDigest": digest("a"),
            "recordDigest": row.digest,
            "recordFormat": FORMAT,
            "recordedAt": datetime.fromtimestamp(row.recorded_at, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        }
        assert rfc8785.dumps(json.loads(entry)) == entry == parse_entry(entry).canonical()
        assert len(entry) < 500

    @pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"format":"goldsmith-ledger-entry/v2"}'])
    def test_anything_else_is_none(self, content: bytes) -> None:
        with pytest.raises(EntryInvalid):
            parse_entry(content)

    def test_one_that_is_not_in_its_canonical_form_is_none(self) -> None:
        entry = entry_bytes("b", digest("a"), digest("b"), FORMAT, 1.5)
        assert isinstance(parse_entry(entry), LedgerEntry)
        for changed in (entry + b" ", entry.replace(b",", b", ", 1), entry.replace(b"{", b'{"x":1,')):
            with pytest.raises(EntryInvalid):
                parse_entry(changed)


class TestAppending:
    def test_each_gets_the_next_place_and_the_head_is_the_tree(self, database: Database) -> None:
        append_records(database, 5, together=1)
        found = leaves(database)
        assert len(found) == 5
        with database.read() as session:
            head = stored.head(session)
        assert (head.size, head.root()) == (5, MerkleTree(found).root())

    def test_a_transaction_that_fails_leaves_no_gap(self, database: Database) -> None:
        def fail() -> None:
            with database.write() as session:
                add_build(session, 2)
                append(session, record(2))
                raise ZeroDivisionError

        append_records(database, 2)
        with pytest.raises(ZeroDivisionError):
            fail()
        append_records(database, 1, start=3)
        assert len(leaves(database)) == 3
        with database.read() as session:
            assert [one.number for one in session.scalars(select(Record).order_by(Record.number))][:2] == [1, 2]

    def test_a_checkpoint_is_asked_for_once(self, database: Database) -> None:
        append_records(database, 3, together=1)
        with database.read() as session:
            waiting = errands.due(session)
        assert [(one.kind, one.subject) for one in waiting] == [(ErrandKind.CHECKPOINT, errands.LEDGER)]
        assert ErrandKind.CHECKPOINT.queue == "release"

    def test_tiles_are_kept_when_they_are_complete_and_never_change(self, database: Database) -> None:
        append_records(database, WIDTH - 1)
        assert tree_rows(database)[1] == []
        append_records(database, 1, start=WIDTH - 1)
        first = tree_rows(database)[1]
        assert [row[:2] for row in first] == [(0, 0)]
        append_records(database, WIDTH + 5, start=WIDTH)
        tiles = tree_rows(database)[1]
        assert tiles[:1] == first
        assert [row[:2] for row in tiles] == [(0, 0), (0, 1)]
        found = leaves(database)
        for number, row in enumerate(tiles):
            part = found[number * WIDTH : (number + 1) * WIDTH]
            assert row[2:] == (b"".join(part), MerkleTree(part).root())

    def test_a_head_that_was_lost_or_cannot_be_stops_every_append(self, database: Database) -> None:
        append_records(database, 2)
        with database.write() as session:
            session.execute(update(LedgerHead).values(size=5))
        with pytest.raises(LedgerDamaged):
            append_records(database, 1, start=2)
        with database.write() as session:
            session.query(LedgerHead).delete()
        with pytest.raises(LedgerDamaged):
            append_records(database, 1, start=2)


def test_tiles_of_tiles_and_proofs_over_them_are_the_trees(database: Database) -> None:
    """Records are left out, for 66,000 take long: leaves alone make the tree."""
    size = WIDTH * WIDTH + 2 * WIDTH + 3
    tree = MerkleTree(leaf_hash(str(number).encode()) for number in range(size))
    with database.write() as session:
        tiles = [
            {
                "level": level, "place": place,
                "hashes": b"".join(tree.node(8 * level, place * WIDTH + number) for number in range(WIDTH)),
                "root": tree.node(8 * level + 8, place),
            }
            for level in range(2)
            for place in range(size // WIDTH ** (level + 1))
        ]  # fmt: skip
        session.bulk_insert_mappings(LedgerTile.__mapper__, tiles)
    with database.read() as session:
        for level in (1, 2):
            last = tile_at(level, size // WIDTH ** (level + 1), size)
            assert last is not None
            assert stored.read_tile(session, last, size) == [
                tree.node(8 * level, last.index * WIDTH + number) for number in range(last.width)
            ]
        covered = size - 3  # what follows has no rows
        nodes = stored.nodes(session, covered)
        assert root_at(covered, nodes) == tree.root(covered)
        for index in (0, 255, 256, 65_535, 65_536, covered - 1):
            assert inclusion_proof(index, covered, nodes) == tree.inclusion_proof(index, covered)
        for first in (1, 256, 300 * WIDTH - 1, covered):
            if first <= covered:
                assert consistency_proof(first, covered, nodes) == tree.consistency_proof(first, covered)


class TestReadingTiles:
    def test_a_part_of_a_tile_is_read_as_it_was_when_it_was_all(self, database: Database) -> None:
        append_records(database, WIDTH + 7)
        found = leaves(database)
        with database.read() as session:
            size = stored.head(session).size
            assert stored.read_tile(session, Tile(0, 0), size) == found[:WIDTH]
            assert stored.read_tile(session, Tile(0, 0, 100), size) == found[:100]
            assert stored.read_tile(session, Tile(0, 1, 5), size) == found[WIDTH : WIDTH + 5]
            assert stored.read_tile(session, Tile(1, 0, 1), size) == [MerkleTree(found[:WIDTH]).root()]

    def test_what_is_not_there_yet_is_not_answered(self, database: Database) -> None:
        append_records(database, 7)
        with database.read() as session:
            for tile in (Tile(0, 0), Tile(0, 0, 8), Tile(0, 1, 1), Tile(1, 0, 1), Tile(63, 0, 1), Tile(None, 0, 1)):
                with pytest.raises(TileUnknown):
                    stored.read_tile(session, tile, 7)

    def test_a_tile_that_is_gone_or_too_short_is_damage(self, database: Database) -> None:
        append_records(database, WIDTH)
        with database.write() as session:
            session.execute(update(LedgerTile).values(hashes=b"short"))
        with database.read() as session, pytest.raises(LedgerDamaged):
            stored.read_tile(session, Tile(0, 0), WIDTH)


def _append_some(url: str, start: int, barrier: object, answers: multiprocessing.Queue[str]) -> None:
    database = Database(url)
    try:
        barrier.wait()  # type: ignore[attr-defined]
        append_records(database, 20, start=start, together=1)
        answers.put("")
    except BaseException as error:
        answers.put(repr(error))
    finally:
        database.close()


def test_many_processes_append_at_once_and_there_is_one_tree_without_gaps(url: str) -> None:
    append_records(Database(url), WIDTH - 30)
    context = multiprocessing.get_context("forkserver")
    barrier, answers = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=_append_some, args=(url, 1000 * (number + 1), barrier, answers)) for number in range(4)
    ]
    for worker in workers:
        worker.start()
    assert [answers.get(timeout=120) for _ in workers] == [""] * 4
    for worker in workers:
        worker.join(30)
    database = Database(url)
    found = leaves(database)
    assert len(found) == WIDTH - 30 + 80
    tree = MerkleTree(found)
    with database.read() as session:
        head = stored.head(session)
        assert (head.size, head.root()) == (len(found), tree.root())
        assert stored.read_tile(session, Tile(0, 0), head.size) == found[:WIDTH]
    numbers = [row[1] for row in tree_rows(database)[0]]
    assert len(set(numbers)) == len(numbers)
    database.close()
