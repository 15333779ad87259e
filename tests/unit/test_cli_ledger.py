"""`goldsmith ledger`: whoever kept a checkpoint finds what was changed, and says so with an exit code."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from builder.cli.main import main
from builder.ledger.note import parse_key
from builder.ledger.proof import parse_proof
from builder.ledger.signing import LedgerKey
from tests.unit.cli_server import Api, running_api
from tests.unit.ledgers import append_records, new_key, sign

Output = pytest.CaptureFixture[str]


@pytest.fixture
def key(tmp_path: Path) -> LedgerKey:
    return new_key(tmp_path)


@pytest.fixture
def api(tmp_path: Path, key: LedgerKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """260 entries, all of them signed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with running_api(tmp_path / "api") as found:
        append_records(found.database, 260)
        sign(found.database, key)
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GOLDSMITH_DATABASE_URL", f"sqlite:///{tmp_path / 'api/goldsmith.db'}")
        yield found


def ledger(*arguments: str) -> int:
    return main(["ledger", *arguments])


def tamper(api: Api, *statements: str) -> None:
    connection = api.database._engine.raw_connection()
    for statement in ("PRAGMA foreign_keys=OFF", *statements):
        connection.execute(statement)  # type: ignore[attr-defined]
    connection.close()


@pytest.fixture
def pinned(key: LedgerKey) -> tuple[str, str]:
    return ("--ledger-key", str(key.verifier))


class TestVerify:
    @pytest.mark.parametrize("more", [(), ("--database",)])
    def test_a_whole_ledger_passes(self, api: Api, pinned: tuple[str, str], capsys: Output, more: tuple[str]) -> None:
        assert ledger("verify", *pinned, *more) == 0
        told = capsys.readouterr()
        assert "intact" in told.out
        assert "1 hold, the largest over 260 of them" in told.out
        assert told.err == ""

    def test_for_machines(self, api: Api, pinned: tuple[str, str], capsys: Output) -> None:
        append_records(api.database, 1, start=260)
        assert ledger("verify", "--database", "--json", *pinned) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["intact"], told["entries"], told["signedEntries"], told["keyPinned"]) == (True, 261, 260, True)

    @pytest.mark.parametrize(
        ("statement", "more", "reason"),
        [
            ("UPDATE records SET recorded_at = 7 WHERE number = 9", (), "record-edited"),
            ("UPDATE records SET recorded_at = 7 WHERE number = 9", ("--database",), "record-edited"),
            ("DELETE FROM records WHERE number = 9", (), "ledger-unreadable"),
            ("DELETE FROM records WHERE number = 9", ("--database",), "record-removed"),
            ("UPDATE ledger_tiles SET root = zeroblob(32)", (), "tile-edited"),
            ("UPDATE ledger_checkpoints SET note = replace(note, '260', '261')", (), "checkpoint-forged"),
            ("UPDATE ledger_checkpoints SET note = replace(note, '260', '261')", ("--database",), "checkpoint-forged"),
        ],
    )
    def test_what_was_altered_is_refused_with_its_reason(
        self, api: Api, pinned: tuple[str, str], capsys: Output, statement: str, more: tuple[str, ...], reason: str
    ) -> None:
        tamper(api, statement)
        assert ledger("verify", *pinned, *more) == 2
        assert f"goldsmith: {reason}:" in capsys.readouterr().err
        assert ledger("verify", *pinned, *more, "--json") == 2
        told = json.loads(capsys.readouterr().out)
        assert (told["intact"], told["reason"]) == (False, reason)

    def test_without_a_key_of_the_callers_the_servers_is_used_and_that_is_said(self, api: Api, capsys: Output) -> None:
        assert ledger("verify", "--json") == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["keyPinned"] is False
        assert "the ledger's own word (log.example/golden+" in told.err

    def test_a_key_may_stand_in_a_file_or_the_configuration(
        self, api: Api, key: LedgerKey, capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "keys").write_text(f"{new_key(tmp_path, 'other').verifier}\n{key.verifier}\n")
        assert ledger("verify", "--ledger-key", "keys") == 0
        (tmp_path / "client.json").write_text(json.dumps({"ledgerKey": str(key.verifier)}))
        (tmp_path / "client.json").chmod(0o600)
        monkeypatch.setenv("GOLDSMITH_CLIENT_CONFIG", str(tmp_path / "client.json"))
        assert ledger("verify", "--json", "--url", api.url) == 0
        assert capsys.readouterr().err == ""

    def test_another_key_believes_nothing(self, api: Api, tmp_path: Path, capsys: Output) -> None:
        other = str(new_key(tmp_path, "other").verifier)
        assert ledger("verify", "--ledger-key", other) == 2
        assert "checkpoint-forged" in capsys.readouterr().err
        assert ledger("verify", "--ledger-key", "nowhere") == 1
        assert "cannot be read" in capsys.readouterr().err
        assert ledger("verify", "--ledger-key", "a+b+c") == 1

    def test_tiles_that_were_saved_are_verified_without_a_service(
        self, api: Api, pinned: tuple[str, str], tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert ledger("verify", *pinned, "--save", "copy") == 0
        copy = tmp_path / "copy"
        files = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
        assert files == [
            "checkpoint", "tile/0/000", "tile/0/001.p/4", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/4",
        ]  # fmt: skip
        monkeypatch.setenv("GOLDSMITH_URL", "http://127.0.0.1:1")
        assert ledger("verify", *pinned, "--directory", "copy") == 0
        bundle = tmp_path / "copy/tile/entries/000"
        bundle.write_bytes(bundle.read_bytes().replace(b"0" * 25 + b"7", b"0" * 25 + b"8"))
        assert ledger("verify", *pinned, "--directory", "copy") == 2
        assert "record-edited: entry 7" in capsys.readouterr().err
        assert ledger("verify", *pinned, "--directory", "copy", "--database") == 64


class TestCheckpoint:
    def test_it_is_kept_and_must_be_continued(
        self, api: Api, key: LedgerKey, pinned: tuple[str, str], capsys: Output, tmp_path: Path
    ) -> None:
        assert ledger("checkpoint", *pinned, "--save", "kept") == 0
        old = (tmp_path / "kept").read_bytes()
        append_records(api.database, 1, start=260)
        sign(api.database, key)
        assert ledger("checkpoint", *pinned, "--save", "kept") == 0
        new = (tmp_path / "kept").read_bytes()
        assert new != old
        assert b"\n261\n" in new
        assert ledger("verify", *pinned, "--checkpoint", "kept") == 0

    @pytest.mark.parametrize("command", [("checkpoint", "--save", "kept"), ("verify", "--checkpoint", "kept")])
    def test_a_ledger_that_was_rewritten_and_signed_again_is_found_by_whoever_kept_one(
        self,
        api: Api,
        key: LedgerKey,
        pinned: tuple[str, str],
        capsys: Output,
        tmp_path: Path,
        command: tuple[str, ...],
    ) -> None:
        assert ledger("checkpoint", *pinned, "--save", "kept") == 0
        kept = (tmp_path / "kept").read_bytes()
        tables = ("ledger_leaves", "ledger_tiles", "ledger_checkpoints", "records", "builds")
        tamper(api, *(f"DELETE FROM {table}" for table in tables), "UPDATE ledger_head SET size = 0, frontier = x''")
        append_records(api.database, 261, start=1)
        sign(api.database, key)
        assert ledger("verify", *pinned) == 0  # it is a good ledger, but another one
        assert ledger(*command, *pinned) == 2
        assert "history-rewritten" in capsys.readouterr().err
        assert (tmp_path / "kept").read_bytes() == kept

    def test_one_that_lost_its_end_is_found(
        self, api: Api, key: LedgerKey, pinned: tuple[str, str], capsys: Output
    ) -> None:
        append_records(api.database, 2, start=260)
        sign(api.database, key)
        assert ledger("checkpoint", *pinned, "--save", "kept") == 0
        tamper(api, "DELETE FROM ledger_checkpoints WHERE size > 260")
        assert ledger("checkpoint", *pinned, "--save", "kept") == 2
        assert "ledger-shortened" in capsys.readouterr().err

    def test_for_machines(self, api: Api, pinned: tuple[str, str], capsys: Output) -> None:
        assert ledger("checkpoint", *pinned, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["origin"], told["size"], told["savedIn"]) == ("log.example/golden", 260, None)


class TestProof:
    @pytest.mark.parametrize("named", [lambda _: "7", lambda digest: digest])
    def test_it_is_checked_and_kept_with_its_entry(
        self, api: Api, key: LedgerKey, pinned: tuple[str, str], tmp_path: Path, capsys: Output,
        named: Callable[[str], str],
    ) -> None:  # fmt: skip
        with api.database.read() as session:
            digest = session.execute(text("SELECT digest FROM records WHERE number = 8")).scalar_one()
        assert ledger("proof", named(digest), *pinned, "-o", "p.tlog-proof") == 0
        proof, entry = (tmp_path / "p.tlog-proof").read_bytes(), (tmp_path / "p.tlog-proof.entry").read_bytes()
        assert json.loads(entry)["recordDigest"] == digest
        assert parse_proof(proof).verify(entry, [key.verifier]).checkpoint.size == 260
        capsys.readouterr()
        assert ledger("proof", named(digest), *pinned) == 0
        assert capsys.readouterr().out.encode() == proof

    def test_what_is_not_there_has_none(self, api: Api, pinned: tuple[str, str], capsys: Output) -> None:
        assert ledger("proof", "260", *pinned) == 1
        assert ledger("proof", "sha256:" + "0" * 64, *pinned) == 1
        assert "is in the ledger" in capsys.readouterr().err

    def test_one_for_an_altered_entry_is_refused(self, api: Api, pinned: tuple[str, str], capsys: Output) -> None:
        tamper(api, "UPDATE records SET recorded_at = 7 WHERE number = 8")
        assert ledger("proof", "7", *pinned) == 2
        assert "entry 7 is not in the tree" in capsys.readouterr().err


class TestKeys:
    def test_a_new_key_is_its_owners_alone_and_its_public_half_is_told(
        self, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GOLDSMITH_LEDGER_ORIGIN", "example.com/ledger")
        path = tmp_path / "ledger.key"
        assert ledger("key", "generate", str(path)) == 0
        told = capsys.readouterr().out.strip()
        assert parse_key(told).name == "example.com/ledger"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert ledger("key", "show", str(path)) == 0
        assert capsys.readouterr().out.strip() == told
        assert ledger("key", "show", str(path), "--json") == 0
        assert json.loads(capsys.readouterr().out)["key"] == told
        assert ledger("key", "generate", str(path)) == 1
        assert "is there already" in capsys.readouterr().err
