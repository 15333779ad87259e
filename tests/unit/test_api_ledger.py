"""The ledger by API: what a log of tiles serves, and proofs that are checked here as a stranger would check them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from builder.ledger.checkpoint import open_checkpoint
from builder.ledger.entry import parse_entry
from builder.ledger.note import Kind, Note, VerifierKey, parse_key, parse_note
from builder.ledger.proof import parse_proof
from builder.ledger.signing import LedgerKey
from builder.merkle.hashing import leaf_hash
from builder.merkle.proofs import verify_consistency, verify_inclusion
from builder.merkle.tiles import Tile, parse_bundle
from builder.settings import Settings
from builder.store.database import Database
from tests.unit.api import problem
from tests.unit.ledgers import append_records, new_key, sign
from tests.unit.test_ledger_note import cosigned

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
SIZE = 300
WITNESS = Ed25519PrivateKey.generate()
WITNESS_KEY = VerifierKey("w.example/1", Kind.COSIGNATURE, WITNESS.public_key().public_bytes_raw())


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"ledger_witnesses": (str(WITNESS_KEY),)})


@pytest.fixture
def key(tmp_path: Path) -> LedgerKey:
    return new_key(tmp_path)


@pytest.fixture
def ledger(client: TestClient, store: Database, key: LedgerKey) -> TestClient:
    """300 entries; the first 270 of them signed."""
    append_records(store, 270)
    sign(store, key)
    append_records(store, SIZE - 270, start=270)
    return client


def raw(text: str) -> bytes:
    return base64.b64decode(text)


class TestReading:
    def test_before_anything_was_signed_there_is_no_checkpoint(self, client: TestClient) -> None:
        problem(client.get("/v1/ledger/checkpoint"), 404, "checkpoint-unknown")
        problem(client.get("/v1/ledger/key"), 404, "checkpoint-unknown")

    def test_the_checkpoint_opens_with_the_key_and_is_not_cached(self, ledger: TestClient, key: LedgerKey) -> None:
        assert ledger.get("/v1/ledger/key").text == f"{key.verifier}\n"
        answer = ledger.get("/v1/ledger/checkpoint")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert "no-cache" in answer.headers["cache-control"]
        assert open_checkpoint(answer.content, [key.verifier]).checkpoint.size == 270
        assert ledger.get("/v1/ledger/checkpoints/270").content == answer.content
        problem(ledger.get("/v1/ledger/checkpoints/271"), 404, "checkpoint-unknown")
        again = ledger.get("/v1/ledger/checkpoint", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304

    def test_tiles_are_served_for_good_and_hash_to_each_other(self, ledger: TestClient) -> None:
        tile = ledger.get("/v1/ledger/tile/0/000")
        assert tile.headers["content-type"] == "application/octet-stream"
        assert "immutable" in tile.headers["cache-control"]
        bundle = ledger.get("/v1/ledger/tile/entries/000")
        entries = parse_bundle(bundle.content, Tile(None, 0))
        assert b"".join(leaf_hash(one) for one in entries) == tile.content
        assert parse_entry(entries[7]).build_id == f"{7:026}"
        assert (
            ledger.get("/v1/ledger/tile/0/001.p/14").content == ledger.get("/v1/ledger/tile/0/001.p/44").content[:448]
        )
        assert len(ledger.get("/v1/ledger/tile/1/000.p/1").content) == 32

    @pytest.mark.parametrize("path", ["0/001", "0/001.p/45", "1/000", "2/000.p/1", "entries/001", "entries/002.p/1"])
    def test_a_tile_that_is_not_there_is_not_found(self, ledger: TestClient, path: str) -> None:
        problem(ledger.get(f"/v1/ledger/tile/{path}"), 404, "ledger-tile-unknown")

    @pytest.mark.parametrize("path", ["x", "0/0", "0/000.p/256", "0/x000/000", "../checkpoint", "0/000.p/1/2"])
    def test_what_names_no_tile_is_not_found(self, ledger: TestClient, path: str) -> None:
        answer = ledger.get(f"/v1/ledger/tile/{path.replace('..', '%2e%2e')}")
        problem(answer, 404, "ledger-tile-unknown")

    def test_an_entry_names_its_record_which_hashes_to_that_name(self, ledger: TestClient) -> None:
        entry = parse_entry(ledger.get("/v1/ledger/entries/5").content)
        record = ledger.get("/v1/ledger/entries/5/record")
        assert "sha256:" + hashlib.sha256(record.content).hexdigest() == entry.record_digest
        assert record.headers["etag"].removeprefix("W/") == f'"{entry.record_digest}"'
        problem(ledger.get(f"/v1/ledger/entries/{SIZE}"), 404, "ledger-entry-unknown")
        problem(ledger.get("/v1/ledger/entries/-1"), 422, "request-invalid")

    def test_damage_is_said_aloud(self, ledger: TestClient, store: Database) -> None:
        with store._engine.begin() as connection:
            connection.execute(text("PRAGMA foreign_keys=OFF"))
            connection.execute(text("DELETE FROM ledger_tiles"))
        problem(ledger.get("/v1/ledger/tile/0/000"), 500, "ledger-damaged")


class TestProofs:
    def test_inclusion_by_place_and_by_digest(self, ledger: TestClient, key: LedgerKey) -> None:
        entry = ledger.get("/v1/ledger/entries/5").content
        by_place = ledger.get("/v1/ledger/proofs/inclusion", params={"index": 5}).json()
        digest = parse_entry(entry).record_digest
        assert ledger.get("/v1/ledger/proofs/inclusion", params={"record": digest}).json() == by_place
        assert (by_place["index"], by_place["size"]) == (5, 270)
        opened = open_checkpoint(by_place["checkpoint"].encode(), [key.verifier]).checkpoint
        assert raw(by_place["rootHash"]) == opened.root
        assert raw(by_place["leafHash"]) == leaf_hash(entry)
        verify_inclusion(5, 270, leaf_hash(entry), [raw(one) for one in by_place["hashes"]], opened.root)

    def test_inclusion_in_a_ledger_of_a_size_that_nobody_signed(self, ledger: TestClient) -> None:
        found = ledger.get("/v1/ledger/proofs/inclusion", params={"index": 299, "size": 300}).json()
        assert found["checkpoint"] is None
        hashes = [raw(one) for one in found["hashes"]]
        verify_inclusion(299, 300, raw(found["leafHash"]), hashes, raw(found["rootHash"]))

    def test_as_a_text_to_be_kept(self, ledger: TestClient, key: LedgerKey) -> None:
        answer = ledger.get("/v1/ledger/proofs/inclusion", params={"index": 7, "format": "tlog-proof"})
        assert answer.text.startswith("c2sp.org/tlog-proof@v1\nindex 7\n")
        entry = ledger.get("/v1/ledger/entries/7").content
        assert parse_proof(answer.content).verify(entry, [key.verifier]).checkpoint.size == 270
        unsigned = {"index": 7, "size": 280, "format": "tlog-proof"}
        problem(ledger.get("/v1/ledger/proofs/inclusion", params=unsigned), 404, "checkpoint-unknown")

    def test_consistency(self, ledger: TestClient) -> None:
        found = ledger.get("/v1/ledger/proofs/consistency", params={"first": 123, "second": 300}).json()
        old, new = raw(found["firstRoot"]), raw(found["secondRoot"])
        verify_consistency(123, 300, old, new, [raw(one) for one in found["hashes"]])

    @pytest.mark.parametrize(
        ("path", "query", "status", "slug"),
        [
            ("inclusion", {}, 422, "request-invalid"),
            ("inclusion", {"index": 1, "record": "sha256:" + "a" * 64}, 422, "request-invalid"),
            ("inclusion", {"record": "sha256:" + "0" * 64}, 404, "ledger-entry-unknown"),
            ("inclusion", {"index": 280}, 404, "ledger-entry-unknown"),
            ("inclusion", {"index": 1, "size": 301}, 404, "ledger-entry-unknown"),
            ("inclusion", {"index": 2**31}, 422, "request-invalid"),
            ("consistency", {"first": 0, "second": 5}, 422, "request-invalid"),
            ("consistency", {"first": 6, "second": 5}, 404, "ledger-entry-unknown"),
            ("consistency", {"first": 6, "second": 301}, 404, "ledger-entry-unknown"),
        ],
    )
    def test_what_cannot_be_proven(
        self, ledger: TestClient, path: str, query: dict[str, str], status: int, slug: str
    ) -> None:
        problem(ledger.get(f"/v1/ledger/proofs/{path}", params=query), status, slug)


class TestWitnesses:
    def test_a_cosignature_is_checked_kept_and_served_with_the_checkpoint(
        self, ledger: TestClient, key: LedgerKey
    ) -> None:
        note = parse_note(ledger.get("/v1/ledger/checkpoint").content)
        for time in (1_800_000_000, 1_800_000_001):
            signed = Note(note.text, (*note.signatures, cosigned(note.text, WITNESS, "w.example/1", time)))
            answer = ledger.post(
                "/v1/ledger/cosignatures", content=signed.encode(), headers={"Content-Type": "text/plain"}
            )
            assert answer.json() == {"size": 270, "witnesses": ["w.example/1"]}
        opened = open_checkpoint(ledger.get("/v1/ledger/checkpoint").content, [key.verifier], [WITNESS_KEY])
        assert opened.witnesses == {"w.example/1": 1_800_000_001}

    def test_what_no_known_witness_signed_is_refused(self, ledger: TestClient) -> None:
        note = parse_note(ledger.get("/v1/ledger/checkpoint").content)
        stranger = cosigned(note.text, Ed25519PrivateKey.generate(), "w.example/2", 5)
        forged = cosigned(note.text, WITNESS, "w.example/1", 5)
        forged = type(forged)(forged.name, forged.key_id, b"\0" * 7 + b"\6" + forged.data[8:])
        other = note.text.replace("270", "271")
        cases = {
            "cosignature-refused": Note(note.text, (stranger,)).encode(),
            "note-not-signed": Note(note.text, (forged,)).encode(),
            "checkpoint-unknown": Note(other, (cosigned(other, WITNESS, "w.example/1", 5),)).encode(),
            "note-invalid": b"x",
        }
        for slug, content in cases.items():
            answer = ledger.post("/v1/ledger/cosignatures", content=content, headers={"Content-Type": "text/plain"})
            problem(answer, 404 if slug == "checkpoint-unknown" else 422, slug)
        assert parse_note(ledger.get("/v1/ledger/checkpoint").content) == note

    def test_other_bodies_are_refused(self, ledger: TestClient) -> None:
        problem(ledger.post("/v1/ledger/cosignatures", json={}), 415, "media-type-unsupported")


def test_the_key_that_is_served_is_the_one_that_signed_after_a_change_too(
    app: FastAPI, client: TestClient, store: Database, tmp_path: Path
) -> None:
    append_records(store, 1)
    old, new = new_key(tmp_path, "old"), new_key(tmp_path, "new")
    sign(store, old)
    append_records(store, 1, start=1)
    sign(store, new)
    served = [parse_key(line) for line in client.get("/v1/ledger/key").text.split()]
    assert served == [new.verifier, old.verifier]
