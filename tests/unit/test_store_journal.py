"""Steps, log lines, attachments and keys in the database. On SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from builder.ledger.record import FORMAT, ReleaseRecord, append
from builder.store import attachments, builds, journal
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.callers import ApiKey
from builder.store.database import Database
from builder.store.journal import Line
from builder.store.keys import create_key, find_key
from builder.store.schema import Blob, Build, Record, Release

pytest_plugins = ["tests.unit.databases"]
SUBMISSION = Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci")


@pytest.fixture
def build_id(database: Database) -> str:
    with database.write() as session:
        return builds.submit(session, SUBMISSION).id


def write(database: Database, build_id: str, *texts: str, token: int = 0) -> bool:
    with database.write() as session:
        return journal.append_log(session, build_id, [Line(1.5, "run", text) for text in texts], token=token)


def read(database: Database, build_id: str, after: int = 0, limit: int = 1000) -> list[tuple[int, str]]:
    with database.read() as session:
        return [(line.number, line.text) for line in journal.log_after(session, build_id, after, limit)]


class TestLog:
    def test_is_numbered_from_one(self, database: Database, build_id: str) -> None:
        assert write(database, build_id, "a", "b")
        assert write(database, build_id, "c")
        assert read(database, build_id) == [(1, "a"), (2, "b"), (3, "c")]

    def test_is_read_on_from_any_line(self, database: Database, build_id: str) -> None:
        write(database, build_id, *"abcde")
        assert read(database, build_id, after=2, limit=2) == [(3, "c"), (4, "d")]
        assert read(database, build_id, after=5) == []

    def test_of_each_build_is_its_own(self, database: Database, build_id: str) -> None:
        with database.write() as session:
            other = builds.submit(session, SUBMISSION).id
        write(database, build_id, "a")
        write(database, other, "b")
        assert read(database, other) == [(1, "b")]

    def test_has_no_gaps_and_loses_nothing_with_many_writers(self, database: Database, build_id: str) -> None:
        barrier = threading.Barrier(8)

        def many(writer: int) -> None:
            barrier.wait()
            for number in range(10):
                assert write(database, build_id, f"{writer}:{number}", f"{writer}:{number}+")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(many, range(8)))
        found = read(database, build_id)
        assert [number for number, _ in found] == list(range(1, 161))
        for writer in range(8):
            own = [text for _, text in found if text.startswith(f"{writer}:")]
            assert own == [f"{writer}:{number}{mark}" for number in range(10) for mark in ("", "+")]

    def test_takes_nothing_from_who_has_lost_the_build(self, database: Database, build_id: str) -> None:
        with database.write() as session:
            session.execute(update(Build).values(token=7))
        assert not write(database, build_id, "late", token=6)
        assert write(database, build_id, "mine", token=7)
        assert read(database, build_id) == [(1, "mine")]

    def test_keeps_every_character_that_text_can_have(self, database: Database, build_id: str) -> None:
        text = "é😀\t" + "x" * 100_000
        write(database, build_id, text)
        assert read(database, build_id) == [(1, text)]


class TestSteps:
    def test_are_listed_in_their_order_with_their_end(self, database: Database, build_id: str) -> None:
        with database.write() as session:
            first = journal.begin_step(session, build_id, 1, "resolve")
            journal.begin_step(session, build_id, 1, "base")
            journal.finish_step(session, first, "done", "18 packages")
        with database.read() as session:
            found = journal.steps_of(session, build_id)
            assert [(step.name, step.state, step.summary) for step in found] == [
                ("resolve", "done", "18 packages"), ("base", "running", ""),
            ]  # fmt: skip
            assert found[0].finished_at is not None
            assert found[1].finished_at is None

    def test_of_a_lost_worker_stay_lost_whatever_it_still_says(self, database: Database, build_id: str) -> None:
        with database.write() as session:
            step = journal.begin_step(session, build_id, 1, "run")
            done = journal.begin_step(session, build_id, 1, "base")
            journal.finish_step(session, done, "done", "")
            journal.abandon_steps(session, build_id)
        with database.write() as session:
            journal.finish_step(session, step, "done", "I was not dead")
        with database.read() as session:
            assert [(s.name, s.state, s.summary) for s in journal.steps_of(session, build_id)] == [
                ("run", "lost", ""), ("base", "done", ""),
            ]  # fmt: skip


class TestAttachments:
    def test_are_found_by_build_and_kind(self, database: Database, build_id: str) -> None:
        with database.write() as session:
            digest = attachments.attach(session, build_id, Kind.SCAN, "text/plain", b"a\x00\xff")
        assert digest == "sha256:" + hashlib.sha256(b"a\x00\xff").hexdigest()
        with database.read() as session:
            found = attachments.find(session, build_id, Kind.SCAN)
            assert found is not None
            assert attachments.content(session, found) == b"a\x00\xff"
            assert attachments.find(session, build_id, Kind.SPDX) is None

    def test_of_a_stage_that_ran_again_replace_those_before(self, database: Database, build_id: str) -> None:
        with database.write() as session:
            attachments.attach(session, build_id, Kind.SCAN, "text/plain", b"old")
            attachments.set_referrers(session, build_id, {"scan": "sha256:" + "a" * 64})
        with database.write() as session:
            attachments.attach(session, build_id, Kind.SCAN, "text/html", b"new")
            found = attachments.find(session, build_id, Kind.SCAN)
            assert found is not None
            assert (found.media_type, attachments.content(session, found)) == ("text/html", b"new")
            assert found.referrer_digest is None

    def test_the_same_bytes_are_kept_once_even_from_many_at_once(self, database: Database) -> None:
        barrier = threading.Barrier(8)

        def put(_: int) -> str:
            barrier.wait()
            with database.write() as session:
                return attachments.put_blob(session, b"same")

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(put, range(8)))) == 1
        with database.read() as session:
            assert session.scalar(select(func.count()).select_from(Blob)) == 1

    def test_of_an_image_are_those_of_its_newest_release(self, database: Database) -> None:
        digest = "sha256:" + "a" * 64
        with database.write() as session:
            for at, content in ((2.0, b"newest"), (1.0, b"older")):
                one = builds.submit(session, SUBMISSION).id
                attachments.attach(session, one, Kind.SCAN, "text/plain", content)
                session.add(
                    Release(
                        build_id=one, digest=digest, recipe_name="web", recipe_digest=digest,
                        registry_host="h", repository="r", tags=[], released_at=at,
                    )
                )  # fmt: skip
        with database.read() as session:
            found = attachments.of_image(session, digest, Kind.SCAN)
            assert found is not None
            assert attachments.content(session, found) == b"newest"
            assert attachments.of_image(session, "sha256:" + "b" * 64, Kind.SCAN) is None

    def test_an_attachment_to_nothing_is_refused_by_the_database(self, database: Database) -> None:
        with pytest.raises(IntegrityError), database.write() as session:
            attachments.attach(session, "0" * 26, Kind.SCAN, "text/plain", b"")


class TestKeys:
    def test_a_key_is_its_owners_and_kept_as_a_hash_alone(self, database: Database) -> None:
        with database.write() as session:
            key = create_key(session, "ci")
        assert key.startswith("gs_")
        assert len(key) > 40
        with database.read() as session:
            found = find_key(session, key)
            assert found is not None
            assert found.name == "ci"
            row = session.scalars(select(ApiKey)).one()
            assert key not in (row.id, row.name, row.key_hash)
            assert row.key_hash == hashlib.sha256(key.encode()).hexdigest()

    @pytest.mark.parametrize("other", ["", "gs_", "\x00", "é", "x" * 100_000])
    def test_another_text_is_nobodys(self, database: Database, other: str) -> None:
        with database.write() as session:
            create_key(session, "ci")
        with database.read() as session:
            assert find_key(session, other) is None

    def test_a_revoked_key_is_nobodys(self, database: Database) -> None:
        with database.write() as session:
            key = create_key(session, "ci")
            session.execute(update(ApiKey).values(revoked_at=1.0))
        with database.read() as session:
            assert find_key(session, key) is None


def record(build_id: str) -> ReleaseRecord:
    return ReleaseRecord(
        build_id=build_id, image_digest="sha256:" + "a" * 64, requester="ci", requested=1.5, recipe={"b": 1, "a": "é"},
        recipe_digest="sha256:" + "b" * 64, attempt=1, steps=[], build={}, scan={}, release={}, bundles={},
    )  # fmt: skip


class TestLedger:
    def test_a_record_is_kept_as_its_canonical_bytes(self, database: Database, build_id: str) -> None:
        with database.write() as session:
            number = append(session, record(build_id))
        with database.read() as session:
            row = session.get(Record, number)
            assert row is not None
            assert row.body == record(build_id).canonical()
            assert row.digest == "sha256:" + hashlib.sha256(row.body).hexdigest()

    def test_a_build_is_recorded_once(self, database: Database, build_id: str) -> None:
        with database.write() as session:
            append(session, record(build_id))
        with pytest.raises(IntegrityError), database.write() as session:
            append(session, record(build_id))

    def test_records_are_numbered_in_their_order(self, database: Database) -> None:
        numbers = []
        for _ in range(3):
            with database.write() as session:
                numbers.append(append(session, record(builds.submit(session, SUBMISSION).id)))
        assert numbers == [1, 2, 3]

    def test_the_canonical_form_says_its_format_and_does_not_depend_on_the_order_of_keys(self) -> None:
        one, other = record("x"), record("x").model_copy(update={"recipe": {"a": "é", "b": 1}})
        assert one.canonical() == other.canonical()
        assert f'"format":"{FORMAT}"'.encode() in one.canonical()
        assert '"recipe":{"a":"é","b":1}'.encode() in one.canonical()
        assert ReleaseRecord.model_validate_json(one.canonical()) == one
