"""What a stage says is kept, whole and in order, and nothing in it can do anything to whoever reads it."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import Rejected
from builder.pipeline.journal import Journal, LogTooLong, printable
from builder.store import builds
from builder.store import journal as rows
from builder.store.builds import Claim, LeaseLost, Submission
from builder.store.database import Database, DatabaseUnavailable
from builder.store.states import BUILD
from tests.unit.stored import PROBLEM

pytest_plugins = ["tests.unit.databases"]
SUBMISSION = Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 😀\tx", "plain é 😀\tx"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;2;1;2;3mcolour", "colour"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;aGk=\x07clip", "clip"),
        ("\x1bcreset", "\ufffdcreset"),
        ("\x1b(0line", "\ufffd(0line"),
        ("\x9b31mc1", "\ufffd31mc1"),
        ("bell\x07", "bell\ufffd"),
        ("back\x08\x08", "back\ufffd\ufffd"),
        ("nul\x00", "nul\ufffd"),
        ("10%\r20%\r30%\r", "10%\n20%\n30%"),
        ("dos\r\n", "dos\n"),
        ("file\u202egnp.exe", "file\ufffdgnp.exe"),
        ("a\u2066b\u2069", "a\ufffdb\ufffd"),
        ("a\u2028b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("\x1b\x1b[31m[31mnested", "\ufffd[31mnested"),
    ],
)
def test_escapes_and_controls_are_taken_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text() | st.text(alphabet="\x1b[]();?0123456789mhlABCP\\\x07\x9b\x9c\r\n\x00a\u202e\u2066"))
def test_whatever_goes_in_no_control_comes_out(text: str) -> None:
    shown = printable(text)
    for character in set(shown) - set("\n\t"):
        assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(character) not in {
            "LRE",
            "RLE",
            "PDF",
            "LRO",
            "RLO",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }
    assert printable(shown) == shown
    shown.encode()


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    found = Database(f"sqlite:///{tmp_path / 'goldsmith.db'}")
    yield found
    found.close()


@pytest.fixture
def claim(database: Database) -> Claim:
    with database.write() as session:
        build = builds.submit(session, SUBMISSION)
        found = builds.claim(session, build.id, BUILD, "w", 60)
    assert found is not None
    return found


def lines(database: Database, claim: Claim) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(line.step, line.text) for line in rows.log_after(session, claim.build_id, 0)]


def steps(database: Database, claim: Claim) -> list[tuple[str, str, str]]:
    with database.read() as session:
        return [(step.name, step.state, step.summary) for step in rows.steps_of(session, claim.build_id)]


class TestStep:
    def test_that_ends_well_is_done_with_its_summary_and_its_lines(self, database: Database, claim: Claim) -> None:
        with Journal(database, claim, 1000).step("run") as step:
            assert steps(database, claim) == [("run", "running", "")]
            step.log("one\ntwo")
            step.summary = "2 commands"
        assert steps(database, claim) == [("run", "done", "2 commands")]
        assert lines(database, claim) == [("run", "one"), ("run", "two")]

    def test_that_is_refused_says_why(self, database: Database, claim: Claim) -> None:
        def work() -> None:
            with Journal(database, claim, 1000).step("run") as step:
                step.log("before")
                raise Rejected("exit code 3", hint="try again")

        with pytest.raises(Rejected):
            work()
        assert steps(database, claim) == [("run", "failed", "exit code 3")]
        assert lines(database, claim) == [("run", "before"), ("run", "failed: exit code 3")]

    def test_that_breaks_names_the_kind_of_fault_and_no_detail(self, database: Database, claim: Claim) -> None:
        with pytest.raises(KeyError), Journal(database, claim, 1000).step("run"):
            raise KeyError("hunter2")
        assert steps(database, claim) == [("run", "failed", "KeyError")]
        assert lines(database, claim) == [("run", "failed: KeyError")]

    def test_whose_summary_quotes_a_program_is_fit_to_be_shown(self, database: Database, claim: Claim) -> None:
        with pytest.raises(Rejected), Journal(database, claim, 1000).step("run"):
            raise Rejected("it said \x1b[31mno\x00")
        assert steps(database, claim) == [("run", "failed", "it said no\ufffd")]

    def test_is_not_begun_by_who_has_lost_the_build(self, database: Database, claim: Claim) -> None:
        with database.write() as session:
            builds.retry(session, builds.get(session, claim.build_id), PROBLEM)
        with pytest.raises(LeaseLost), Journal(database, claim, 1000).step("run"):
            pytest.fail("a stale worker must not work")
        assert steps(database, claim) == []

    def test_of_who_loses_the_build_in_the_middle_stays_lost(self, database: Database, claim: Claim) -> None:
        def work() -> None:
            with Journal(database, claim, 1000).step("run") as step:
                with database.write() as session:
                    rows.abandon_steps(session, claim.build_id)
                    builds.retry(session, builds.get(session, claim.build_id), PROBLEM)
                step.log("still here")
                raise LeaseLost("gone")

        with pytest.raises(LeaseLost):
            work()
        assert steps(database, claim) == [("run", "lost", "")]
        assert lines(database, claim) == []


class TestLog:
    def test_is_written_at_each_flush_in_order(self, database: Database, claim: Claim) -> None:
        journal = Journal(database, claim, 1000)
        journal.add("a", "1")
        assert lines(database, claim) == []
        journal.flush()
        journal.add("b", "\x1b[31m2")
        journal.flush()
        journal.flush()
        assert lines(database, claim) == [("a", "1"), ("b", "2")]

    def test_has_a_limit_that_ends_the_build_and_says_so(self, database: Database, claim: Claim) -> None:
        def work() -> None:
            with Journal(database, claim, 72).step("run") as step:
                step.log("12345")
                step.log("1234")

        with pytest.raises(LogTooLong) as caught:
            work()
        assert "GOLDSMITH_BUILD_LOG_BYTES" in (caught.value.hint or "")
        assert [text for _, text in lines(database, claim)] == ["12345", f"failed: {caught.value.detail}"]

    @pytest.mark.parametrize("text", ["", "\r" * 8192])
    def test_of_empty_lines_has_a_limit_too(self, database: Database, claim: Claim, text: str) -> None:
        def work() -> None:
            with Journal(database, claim, 100_000).step("run") as step:
                for _ in range(10_000):
                    step.log(text)

        with pytest.raises(LogTooLong):
            work()
        assert len(lines(database, claim)) < 100_000 / 32 + 2

    def test_is_kept_while_the_database_is_away(self, database: Database, claim: Claim, tmp_path: Path) -> None:
        journal = Journal(database, claim, 1000)
        journal.add("a", "1")
        database.close()
        (tmp_path / "goldsmith.db").rename(tmp_path / "away.db")
        with pytest.raises(DatabaseUnavailable):
            journal.flush()
        journal.add("a", "2")
        database.close()
        (tmp_path / "away.db").replace(tmp_path / "goldsmith.db")
        journal.flush()
        assert lines(database, claim) == [("a", "1"), ("a", "2")]
