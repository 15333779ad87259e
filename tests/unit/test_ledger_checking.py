"""Whatever is done to the ledger behind its back is found, with its own reason and the first place where it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from builder.ledger import stored
from builder.ledger.checking import Checked, check_database
from builder.ledger.checkpoint import Checkpoint, open_checkpoint
from builder.ledger.damage import LedgerNotIntact, Reason
from builder.ledger.following import check_tiles, read_checkpoint
from builder.ledger.history import Kept
from builder.ledger.proof import LedgerProof, LedgerProofInvalid, parse_proof
from builder.ledger.record import append
from builder.ledger.serving import entry_at, index_of, prove_consistency, signed_proof
from builder.ledger.signing import LedgerKey
from builder.ledger.stored import LedgerDamaged
from builder.merkle.frontier import Frontier
from builder.merkle.proofs import ProofInvalid, verify_consistency
from builder.merkle.tiles import WIDTH
from builder.store.database import Database
from builder.store.schema import Record
from tests.unit.evidence import digest
from tests.unit.ledgers import ORIGIN, add_build, append_records, new_key, reader, record, sign

pytest_plugins = ["tests.unit.databases"]
FIRST, SECOND, SIZE = 100, WIDTH + 20, WIDTH + 30


@pytest.fixture
def key(tmp_path: Path) -> LedgerKey:
    return new_key(tmp_path)


@pytest.fixture
def ledger(database: Database, key: LedgerKey) -> tuple[Database, bytes]:
    """A complete tile and a bit, with checkpoints at 100, 276 and 286; the one at 100 is kept elsewhere, too."""
    append_records(database, FIRST)
    old = sign(database, key)
    append_records(database, SECOND - FIRST, start=FIRST)
    sign(database, key)
    append_records(database, SIZE - SECOND, start=SECOND)
    sign(database, key)
    return database, old


def given(key: LedgerKey, *notes: bytes) -> list[Kept]:
    return [Kept(open_checkpoint(note, [key.verifier]).checkpoint, "the old checkpoint") for note in notes]


def check(database: Database, key: LedgerKey, *notes: bytes) -> Checked:
    with database.read() as session:
        return check_database(session, [key.verifier], given(key, *notes))


def follow(database: Database, key: LedgerKey, *notes: bytes) -> Checked:
    read = reader(database)
    return check_tiles(read, read_checkpoint(read, [key.verifier]), given(key, *notes))


def tamper(database: Database, *statements: str, **values: object) -> None:
    """As somebody who owns the database: foreign keys hold nobody up."""
    engine = database._engine
    wanted = [(one, {name: value for name, value in values.items() if f":{name}" in one}) for one in statements]
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[attr-defined]
        for statement, named in wanted:
            connection.execute(statement, named)  # type: ignore[attr-defined]
        connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[attr-defined]
        connection.close()
        return
    with engine.begin() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        for statement, named in wanted:
            session.execute(text(statement), named)


def number_of(database: Database, place: int) -> int:
    with database.read() as session:
        return stored.entries(session, place, place + 1)[0].number


def replant(database: Database, changed: Callable[[list[tuple[int, str]]], list[tuple[int, str]]]) -> None:
    """Leaves, tiles and head made anew over records in another order, or others: what an insider would do."""
    with database.read() as session:
        leaves = session.execute(text("SELECT record_number, format FROM ledger_leaves ORDER BY place")).all()
    order = changed([(row[0], row[1]) for row in leaves])
    emptied = ("DELETE FROM ledger_leaves", "DELETE FROM ledger_tiles", "UPDATE ledger_head SET size=0, frontier=:no")
    tamper(database, *emptied, no=b"")
    with database.write() as session:
        for number, record_format in order:
            stored.append_leaf(session, session.get_one(Record, number), record_format)


def refused(found: Callable[[], object], reason: Reason, says: str) -> None:
    with pytest.raises(LedgerNotIntact) as caught:
        found()
    assert caught.value.reason is reason, caught.value.detail
    assert says in caught.value.detail, caught.value.detail


class TestWhatIsWhole:
    def test_passes_with_all_its_checkpoints(self, ledger: tuple[Database, bytes], key: LedgerKey) -> None:
        database, old = ledger
        with database.read() as session:
            root = stored.head(session).root()
        assert check(database, key, old) == Checked(SIZE, root, 4, SIZE)
        assert follow(database, key, old) == Checked(SIZE, root, 2, SIZE)

    def test_an_empty_ledger_passes(self, database: Database, key: LedgerKey) -> None:
        assert check(database, key).size == 0

    def test_what_nobody_has_signed_yet_is_told_apart(self, database: Database, key: LedgerKey) -> None:
        append_records(database, 3)
        sign(database, key)
        append_records(database, 2, start=3)
        found = check(database, key)
        assert (found.size, found.signed) == (5, 3)
        assert follow(database, key).size == 3

    def test_progress_is_told(self, ledger: tuple[Database, bytes], key: LedgerKey) -> None:
        database, _ = ledger
        told: list[int] = []
        with database.read() as session:
            check_database(session, [key.verifier], progress=told.append)
        assert told == [WIDTH, SIZE]


# What is done, and what each of the two checks then says: in the complete tile (place 5) and behind it (place 280).
@pytest.mark.parametrize("place", [5, 280])
class TestARow:
    @pytest.mark.parametrize(
        "change",
        ["body = :body", "build_id = 'x'", "image_digest = 'x'", "recorded_at = 7", "body = :body, digest = :digest"],
    )  # fmt: skip
    def test_that_is_edited(self, ledger: tuple[Database, bytes], key: LedgerKey, place: int, change: str) -> None:
        database, old = ledger
        number = number_of(database, place)
        body = b'{"format":"forged"}'
        tamper(database, f"UPDATE records SET {change} WHERE number = :number", number=number, body=body,
               digest="sha256:" + hashlib.sha256(body).hexdigest())  # fmt: skip
        refused(lambda: check(database, key), Reason.RECORD_EDITED, f"record {number}, entry {place}, was edited")
        refused(lambda: follow(database, key, old), Reason.RECORD_EDITED, f"entry {place} is not the one")

    def test_whose_digest_alone_is_edited(self, ledger: tuple[Database, bytes], key: LedgerKey, place: int) -> None:
        database, _ = ledger
        tamper(
            database, "UPDATE records SET digest = 'sha256:x' WHERE number = :number", number=number_of(database, place)
        )
        refused(
            lambda: check(database, key), Reason.RECORD_EDITED, f"entry {place}, was edited: its body has the digest"
        )

    def test_that_is_removed(self, ledger: tuple[Database, bytes], key: LedgerKey, place: int) -> None:
        database, old = ledger
        number = number_of(database, place)
        tamper(database, "DELETE FROM records WHERE number = :number", number=number)
        refused(lambda: check(database, key), Reason.RECORD_REMOVED, f"record {number}, entry {place}, is gone")
        with pytest.raises(LedgerDamaged, match="are gone"):
            follow(database, key, old)

    def test_that_is_removed_with_its_leaf(self, ledger: tuple[Database, bytes], key: LedgerKey, place: int) -> None:
        database, _ = ledger
        number = number_of(database, place)
        tamper(database, "DELETE FROM ledger_leaves WHERE place = :place", "DELETE FROM records WHERE number = :number",
               place=place, number=number)  # fmt: skip
        refused(
            lambda: check(database, key),
            Reason.RECORD_REMOVED,
            f"entry {place} is missing; the next one is {place + 1}",
        )

    def test_that_changes_places(self, ledger: tuple[Database, bytes], key: LedgerKey, place: int) -> None:
        database, old = ledger
        one, other = number_of(database, place), number_of(database, place + 3)
        tamper(
            database,
            "UPDATE ledger_leaves SET record_number = -1 WHERE place = :place",
            "UPDATE ledger_leaves SET record_number = :one WHERE place = :place + 3",
            "UPDATE ledger_leaves SET record_number = :other WHERE place = :place",
            place=place, one=one, other=other,
        )  # fmt: skip
        says = f"entry {place}, is the one that was appended as entry {place + 3}"
        refused(lambda: check(database, key), Reason.RECORDS_REORDERED, f"record {other}, {says}")
        refused(
            lambda: follow(database, key, old), Reason.RECORDS_REORDERED,
            f"entry {place} is the one that was appended as entry {place + 3}",
        )  # fmt: skip

    def test_that_is_edited_with_its_leaf(self, ledger: tuple[Database, bytes], key: LedgerKey, place: int) -> None:
        database, old = ledger
        tamper(database, "UPDATE records SET recorded_at = 7 WHERE number = :number", number=number_of(database, place))
        with database.read() as session:
            entry = stored.entries(session, place, place + 1)[0]
        tamper(database, "UPDATE ledger_leaves SET hash = :hash WHERE place = :place", hash=entry.hash, place=place)
        if place < FIRST:
            says = "the first 100 entries are not those"
            refused(lambda: check(database, key), Reason.REWRITTEN, says)
            refused(lambda: follow(database, key, old), Reason.RECORD_EDITED, f"entry {place} is not the one")
        else:
            says = "the first 286 entries are not those that"
            refused(lambda: check(database, key), Reason.REWRITTEN, says)
            refused(lambda: follow(database, key, old), Reason.REWRITTEN, says)

    def test_whose_leaf_alone_is_edited(self, ledger: tuple[Database, bytes], key: LedgerKey, place: int) -> None:
        database, old = ledger
        tamper(database, "UPDATE ledger_leaves SET hash = :hash WHERE place = :place", hash=bytes(32), place=place)
        reason = Reason.LEAF_EDITED if place < WIDTH else Reason.RECORD_EDITED
        refused(lambda: check(database, key), reason, f"entry {place}")
        if place >= WIDTH:
            refused(lambda: follow(database, key, old), Reason.RECORD_EDITED, f"entry {place} is not the one")

    def test_that_was_never_there_and_everything_made_anew_with_it(
        self, ledger: tuple[Database, bytes], key: LedgerKey, place: int
    ) -> None:
        database, old = ledger
        with database.write() as session:
            add_build(session, 9999)
            append(session, record(9999))
        replant(database, lambda rows: [*rows[:place], rows[-1], *rows[place:-1]])
        first, agreed = (100, "no smaller") if place < FIRST else (286, "the first 276")
        says = f"the first {first} entries are not those"
        refused(lambda: check(database, key), Reason.REWRITTEN, says)
        refused(lambda: check(database, key), Reason.REWRITTEN, agreed)
        refused(lambda: follow(database, key, old), Reason.REWRITTEN, says)

    def test_that_is_dropped_and_everything_made_anew_without_it(
        self, ledger: tuple[Database, bytes], key: LedgerKey, place: int
    ) -> None:
        database, _ = ledger
        replant(database, lambda rows: [*rows[:place], *rows[place + 1 :]])
        if place < FIRST:
            refused(lambda: check(database, key), Reason.REWRITTEN, "the first 100 entries are not those")
        else:
            refused(lambda: check(database, key), Reason.SHORTENED, "signed 286 entries, and there are 285")


class TestWhatIsBesideTheRows:
    def test_a_record_that_was_never_appended(self, ledger: tuple[Database, bytes], key: LedgerKey) -> None:
        database, _ = ledger
        tamper(
            database,
            "INSERT INTO records (number, build_id, image_digest, digest, body, recorded_at) "
            "VALUES (70000, 'x', 'sha256:x', 'sha256:x', :body, 1)",
            body=b"{}",
        )
        refused(lambda: check(database, key), Reason.RECORD_INSERTED, "record 70000 was never appended")

    @pytest.mark.parametrize(("content", "says"), [(b"x" * 32, "in its hash 0"), (b"", "in its hash 0")])
    def test_a_tile_that_is_edited(
        self, ledger: tuple[Database, bytes], key: LedgerKey, content: bytes, says: str
    ) -> None:
        database, old = ledger
        with database.read() as session:
            kept = session.execute(text("SELECT hashes FROM ledger_tiles")).scalar_one()
        tamper(database, "UPDATE ledger_tiles SET hashes = :hashes", hashes=content + bytes(kept)[32:])
        refused(lambda: check(database, key), Reason.TILE_EDITED, f"tile/0/000 was edited, {says}")
        if content:
            refused(lambda: follow(database, key, old), Reason.RECORD_EDITED, "entry 0 is not the one whose hash")

    def test_a_root_of_a_tile_that_is_edited(self, ledger: tuple[Database, bytes], key: LedgerKey) -> None:
        database, old = ledger
        tamper(database, "UPDATE ledger_tiles SET root = :root", root=bytes(32))
        refused(lambda: check(database, key), Reason.TILE_EDITED, "tile/0/000 was edited, in its root")
        refused(lambda: follow(database, key, old), Reason.TILE_EDITED, "tile/1/000.p/1 was edited, in its hash 0")

    def test_a_record_with_its_leaf_against_a_tile_that_is_whole(self, database: Database, key: LedgerKey) -> None:
        append_records(database, WIDTH)  # and no checkpoint at all
        tamper(database, "UPDATE records SET recorded_at = 7 WHERE number = :number", number=number_of(database, 9))
        with database.read() as session:
            entry = stored.entries(session, 9, 10)[0]
        tamper(database, "UPDATE ledger_leaves SET hash = :hash WHERE place = 9", hash=entry.hash)
        refused(lambda: check(database, key), Reason.RECORD_EDITED, "entry 9 and its leaf were edited")

    def test_a_tile_that_is_gone(self, ledger: tuple[Database, bytes], key: LedgerKey) -> None:
        database, old = ledger
        tamper(database, "DELETE FROM ledger_tiles")
        refused(lambda: check(database, key), Reason.TILE_MISSING, "tile/0/000 is gone")
        with pytest.raises(LedgerDamaged):
            follow(database, key, old)

    def test_a_tile_that_no_such_tree_has(self, ledger: tuple[Database, bytes], key: LedgerKey) -> None:
        database, _ = ledger
        tamper(database, "INSERT INTO ledger_tiles (level, place, hashes, root) VALUES (7, 0, :h, :h)", h=bytes(32))
        refused(lambda: check(database, key), Reason.TILE_EDITED, "tiles that such a tree does not have")

    @pytest.mark.parametrize("change", ["size = 280", "frontier = :frontier"])
    def test_a_head_that_is_edited(self, ledger: tuple[Database, bytes], key: LedgerKey, change: str) -> None:
        database, _ = ledger
        with database.read() as session:
            frontier = bytes(len(stored.head(session).hashes))
        tamper(database, f"UPDATE ledger_head SET {change}", frontier=frontier)
        refused(lambda: check(database, key), Reason.HEAD_EDITED, "")

    def test_an_end_that_is_cut_off(self, ledger: tuple[Database, bytes], key: LedgerKey) -> None:
        database, old = ledger
        tamper(
            database, "DELETE FROM ledger_leaves WHERE place >= 280", "DELETE FROM ledger_checkpoints WHERE size > 280"
        )
        refused(lambda: check(database, key), Reason.SHORTENED, "286 entries were appended, and there are 280")
        tamper(database, "DELETE FROM ledger_checkpoints WHERE size > 200")
        with database.read() as session:
            kept = [one.kept for one in stored.entries(session, 0, 280)]
        tree = Frontier()
        for leaf in kept:
            tree.append(leaf)
        tamper(database, "UPDATE ledger_head SET size = 280, frontier = :frontier", frontier=tree.hashes)
        refused(lambda: check(database, key), Reason.RECORD_INSERTED, "was never appended")
        tamper(database, "DELETE FROM records WHERE number NOT IN (SELECT record_number FROM ledger_leaves)")
        assert check(database, key, old).size == 280  # nobody kept what was signed last, so nobody can tell
        later = key.sign(Checkpoint(ORIGIN, SIZE, bytes(32))).encode()
        refused(lambda: check(database, key, later), Reason.SHORTENED, "the old checkpoint signed 286 entries")
        refused(lambda: follow(database, key, later), Reason.SHORTENED, "the old checkpoint signed 286 entries")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ("note = replace(note, '100', '101')", "does not hold"),
            ("note = replace(note, 'log.example', 'log.example.org')", "none of the keys"),
            ("note = ''", "no signature"),
            ("size = 101", "kept for size 101 is of size 100"),
        ],
    )
    def test_a_checkpoint_that_is_edited(
        self, ledger: tuple[Database, bytes], key: LedgerKey, change: str, says: str
    ) -> None:
        database, _ = ledger
        tamper(database, f"UPDATE ledger_checkpoints SET {change} WHERE size = 100")
        refused(lambda: check(database, key), Reason.CHECKPOINT_FORGED, says)

    def test_a_checkpoint_that_somebody_else_signed(
        self, ledger: tuple[Database, bytes], key: LedgerKey, tmp_path: Path
    ) -> None:
        database, _ = ledger
        other = new_key(tmp_path, "other")
        append_records(database, 1, start=5000)
        sign(database, other)
        refused(lambda: check(database, key), Reason.CHECKPOINT_FORGED, "size 287")
        refused(lambda: follow(database, key), Reason.CHECKPOINT_FORGED, "")

    def test_a_fork_that_the_logs_own_key_has_signed(self, ledger: tuple[Database, bytes], key: LedgerKey) -> None:
        database, _ = ledger
        forked = key.sign(Checkpoint(ORIGIN, FIRST, bytes(32))).encode()
        refused(lambda: check(database, key, forked), Reason.REWRITTEN, "the old checkpoint signed")
        refused(lambda: follow(database, key, forked), Reason.REWRITTEN, "the old checkpoint signed")


class TestProofs:
    def test_a_proof_is_kept_beside_its_entry_and_holds_without_us(
        self, ledger: tuple[Database, bytes], key: LedgerKey
    ) -> None:
        database, _ = ledger
        for index in (0, 255, 256, SIZE - 1):
            with database.read() as session:
                proof, entry = signed_proof(session, index), entry_at(session, index).entry
            assert entry is not None
            again = parse_proof(proof.encode())
            assert again == proof
            assert again.verify(entry, [key.verifier]).checkpoint.size == SIZE
            with pytest.raises(ProofInvalid):
                again.verify(entry + b" ", [key.verifier])
            with pytest.raises(ProofInvalid):
                LedgerProof(index ^ 1, again.hashes, again.checkpoint).verify(entry, [key.verifier])

    def test_a_consistency_proof_leads_from_the_old_checkpoint(
        self, ledger: tuple[Database, bytes], key: LedgerKey
    ) -> None:
        database, old = ledger
        first = open_checkpoint(old, [key.verifier]).checkpoint
        with database.read() as session:
            path = prove_consistency(session, first.size, SIZE)
            verify_consistency(first.size, SIZE, first.root, stored.head(session).root(), path)

    def test_a_record_is_found_by_its_digest_and_an_image_by_its(self, ledger: tuple[Database, bytes]) -> None:
        database, _ = ledger
        with database.read() as session:
            entry = entry_at(session, 7)
            assert entry.digest is not None
            assert index_of(session, entry.digest) == 7
            assert index_of(session, digest("a")) == SIZE - 1

    @pytest.mark.parametrize(
        "content",
        [
            b"", b"c2sp.org/tlog-proof@v1",
            b"c2sp.org/tlog-proof@v1\nindex 01\n\nx", b"c2sp.org/tlog-proof@v2\nindex 1\n\nx",
            b"c2sp.org/tlog-proof@v1\nindex 1\n!\n\nx", b"c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nx", b"\xff\n\n",
            b"c2sp.org/tlog-proof@v1\n\nx", b"c2sp.org/tlog-proof@v1\nextra !\nindex 1\n\nx",
        ],
    )  # fmt: skip
    def test_what_is_no_proof_is_refused(self, content: bytes) -> None:
        with pytest.raises(LedgerProofInvalid):
            parse_proof(content)

    def test_extra_data_is_let_pass(self) -> None:
        found = parse_proof(b"c2sp.org/tlog-proof@v1\nextra YQ==\nindex 0\n\nnote")
        assert found == LedgerProof(0, (), b"note")
